"""Padded and trimmed arrays hold the same data."""

import numpy as np
import pytest
import torch

from data_gen import arrays
from data_gen.reader import SplitReader
from feeder import dataset
from tools.common.cli import InputError


@pytest.fixture
def prepared(tmp_path, write_skeleton, prepare_xsub):
    """{layout: folder} of one x-sub benchmark: one body, two, bodies that leave, one frame, more
    than 300.
    """
    raw = tmp_path / 'recordings'
    raw.mkdir()
    (tmp_path / 'samples_with_missing_skeletons.txt').touch()
    kinds = ([1] * 40, [2] * 70, [2] * 31 + [1] * 39, [2] * 50 + [0] * 20, [1], [1] * 310)
    for number, frames in enumerate(kinds):
        for performer in range(1, 7):
            name = f'S001C001P{performer:03d}R001A{number + 1:03d}'
            write_skeleton(raw / f'{name}.skeleton', frames, 10 * number + performer)
    return {layout: prepare_xsub(raw, layout) for layout in arrays.LAYOUTS}


@pytest.mark.parametrize('split', ['train', 'val'])
def test_files_of_each_layout(prepared, split):
    counts = np.load(prepared['padded'] / f'{split}_num_frame.npy')
    files = {
        'padded': ('data_joint', (len(counts), 3, 300, 25, 2)),
        'trimmed': ('frame_joint', (counts.sum(), 2, 25, 3)),
    }
    for layout, (kind, shape) in files.items():
        assert {path.name for path in prepared[layout].glob(f'{split}_*')} == {
            f'{split}_{kind}.npy',
            f'{split}_num_frame.npy',
            f'{split}_label.pkl',
        }
        array = np.load(prepared[layout] / f'{split}_{kind}.npy')
        assert (array.shape, array.dtype) == (shape, np.float32)
        np.save(prepared[layout] / 'again.npy', array)
        assert (prepared[layout] / 'again.npy').read_bytes() == (
            prepared[layout] / f'{split}_{kind}.npy'
        ).read_bytes()


@pytest.mark.parametrize('split', ['train', 'val'])
def test_either_layout_loads_the_same(prepared, split):
    padded, trimmed = (dataset.load_split(folder, split) for folder in prepared.values())
    assert_equal(padded, trimmed)
    rows = np.load(prepared['padded'] / f'{split}_data_joint.npy')
    clips = [
        row.transpose(1, 3, 2, 0)[:count]
        for row, count in zip(rows, padded.num_frames, strict=True)
    ]
    assert (trimmed.frames.numpy() == np.concatenate(clips)).all()


def assert_equal(one, other):
    assert torch.equal(one.frames, other.frames)
    assert torch.equal(one.num_frames, other.num_frames)
    assert (one.names, one.labels.tolist()) == (other.names, other.labels.tolist())


@pytest.mark.parametrize('layout', ['padded', 'trimmed'])
def test_chunks_of_any_size_read_the_same(prepared, monkeypatch, layout):
    whole = dataset.load_split(prepared[layout], 'train').frames
    for size in (1, 2, 5, 64):
        monkeypatch.setattr(dataset, 'CLIPS_PER_CHUNK', size)
        assert torch.equal(dataset.load_split(prepared[layout], 'train').frames, whole)


def test_trimmed_frames_without_their_counts_are_refused(prepared):
    counts = prepared['trimmed'] / 'train_num_frame.npy'
    np.save(counts, np.load(counts) + 1)
    with pytest.raises(InputError, match='train_frame_joint.npy: .* frames, not '):
        SplitReader(prepared['trimmed'], 'train')
