"""The example of an evaluation in tools/evaluation/README.md is a program that runs."""

import json
import re
from itertools import permutations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tools.evaluation import evaluation


@pytest.fixture
def clustering():
    text = (Path(evaluation.__file__).parent / 'README.md').read_text()
    (code,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    module = ModuleType('clustering')
    exec(code, module.__dict__)
    return module


def test_the_example_finds_as_many_clusters_as_classes_with_test_clips(
    clustering, setting, tmp_path, capsys
):
    clustering.main([*setting, '--results', str(tmp_path / 'results.json')])
    made = json.loads((tmp_path / 'results.json').read_text())
    assert made['task'] == 'k-means'
    assert len(made['predictions']) == len(made['labels']) == 12
    assert 'k-means, ntu60 cross_subject, joint+bone+motion: 3 clusters' in capsys.readouterr().out
    labels, predictions = np.array(made['labels']), np.array(made['predictions'])
    assert set(predictions) == set(labels) == {0, 1, 2}
    accuracies = [
        100 * np.mean(np.array(classes)[predictions] == labels)
        for classes in permutations(range(3))
    ]
    assert made['accuracy'] == pytest.approx(max(accuracies))  # the best class for each cluster
    assert max(accuracies) >= 100 / 3  # their mean: each cluster has each class in a third of them
