"""What a results file holds, and when it counts as finished."""

import json

import numpy as np
import pytest
import torch

from data_gen import manifest
from tools import results
from tools.common.files import move_aside
from tools.version import code_version

CONFIG = {'seed': 3, 'lr': [0.1, 0.2], 'modalities': ('joint', 'bone'), 'checkpoint_sha256': 'ab'}


def test_results_file(tmp_path):
    results.write(
        tmp_path / 'r.json',
        CONFIG,
        accuracy=50.0,
        labels=torch.tensor([1, 2]),
        table=[{'modalities': 'joint', 'interval': torch.tensor([1.5]), 'count': np.int64(3)}],
    )
    record = json.loads((tmp_path / 'r.json').read_text())
    assert record.pop('command')
    assert record.pop('torch') == torch.__version__
    assert record.pop('code') == code_version()
    assert record == {
        'accuracy': 50,
        'labels': [1, 2],
        'table': [{'modalities': 'joint', 'interval': [1.5], 'count': 3}],
        'config': {
            'seed': 3,
            'lr': [0.1, 0.2],
            'modalities': ['joint', 'bone'],
            'checkpoint_sha256': 'ab',
        },
    }


def test_finished_is_one_equality(tmp_path):
    path = tmp_path / 'r.json'
    assert not results.is_finished(path, CONFIG)
    results.write(path, CONFIG, runs=[])
    assert not results.is_finished(path, CONFIG)  # no accuracy yet
    results.write(path, CONFIG, accuracy=1.0)
    assert results.is_finished(path, CONFIG)
    for other in ({**CONFIG, 'seed': 4}, {**CONFIG, 'k': 1}, {'seed': 3}):
        assert not results.is_finished(path, other)


@pytest.mark.parametrize('content', ['', '{"accuracy": 1', '[1]', 'null'])
def test_other_files_are_not_results(tmp_path, content):
    (tmp_path / 'r.json').write_text(content)
    assert not results.is_finished(tmp_path / 'r.json', CONFIG)


def test_files_are_moved_aside_together_and_never_over_others(tmp_path):
    for number in (1, 2):
        for name in ('a.json', 'b.json'):
            (tmp_path / name).write_text(str(number))
        assert (
            move_aside(tmp_path / 'a.json', tmp_path / 'b.json') == tmp_path / f'earlier_{number}'
        )
    assert [
        (tmp_path / f'earlier_{number}/{name}.json').read_text()
        for number in (1, 2)
        for name in 'ab'
    ] == ['1', '1', '2', '2']


def test_arrays_without_a_manifest_are_identified_by_labels_and_frame_counts(
    tmp_path, padded_arrays
):
    padded_arrays(tmp_path)
    first, again = (results.data_sha256(tmp_path) for _ in range(2))
    counts = np.load(tmp_path / 'val_num_frame.npy')
    counts[3] -= 1
    np.save(tmp_path / 'val_num_frame.npy', counts)
    assert first == again != results.data_sha256(tmp_path)


def test_the_same_clips_in_two_layouts_are_one_data_set(tmp_path):
    def sha256(layout='padded', val='b', **details):
        parts = {'train': {'clips': 3, 'hash': 'a'}, 'val': {'clips': 2, 'hash': val}}
        manifest.write(tmp_path, layout=layout, parts=parts, **details)
        return results.data_sha256(tmp_path)

    assert sha256() == sha256('trimmed', version='2')
    assert sha256() != sha256(val='c')
    named = sha256(class_names=['sit', 'run'])
    assert len({sha256(), named, sha256(class_names=['sit', 'run', 'fall'])}) == 3
    assert sha256() != sha256(performers={'a.skeleton': 3})
