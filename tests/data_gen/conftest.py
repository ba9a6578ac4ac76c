"""Fixtures of this folder; also lets its tests import known_body.py."""

import sys
from pathlib import Path

import pytest

from data_gen import ntu_gendata

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def prepare_xsub(tmp_path):
    """prepare_xsub(raw, layout, workers=1): the folder of an NTU-60 x-sub, prepared from a folder of
    recordings.
    """

    def command(raw, layout, workers=1):
        words = ['--dataset', 'ntu60', '--benchmark', 'xsub', '--data_path', raw, '-j', workers]
        words += ['--layout', layout, '--out_folder', tmp_path / layout]
        assert ntu_gendata.main(list(map(str, words))) == 0
        return tmp_path / layout / 'xsub'

    return command
