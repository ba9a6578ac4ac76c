"""The example of an evaluation in tools/evaluation/README.md is a program that runs."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tools.evaluation import evaluation


@pytest.fixture
def clustering():
    text = (Path(evaluation.__file__).parent / 'README.md').read_text()
    (code,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    module = ModuleType('clustering')
    exec(code, module.__dict__)
    return module


def test_the_example_evaluates_fewer_test_clips_than_classes(clustering, setting, tmp_path, capsys):
    clustering.main([*setting, '--results', str(tmp_path / 'results.json')])
    made = json.loads((tmp_path / 'results.json').read_text())
    assert made['task'] == 'k-means'
    assert len(made['predictions']) == len(made['labels']) == 12
    assert made['accuracy'] == 25  # each clip is a cluster, and one of each of three classes counts
    assert 'k-means, ntu60 cross_subject, joint+bone+motion: 12 clusters' in capsys.readouterr().out
