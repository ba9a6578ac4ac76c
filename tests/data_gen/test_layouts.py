"""Padded and trimmed: the same data, to the byte, both ways."""
import numpy as np
import pytest
import torch

from data_gen import convert
from data_gen.arrays import trim, untrim
from data_gen.preprocess import normalize
from feeder import store


def two_bodies(first, second, frames):
    """A raw recording (3, T, 25, 2) whose bodies are seen in the first `first` and `second` frames."""
    xyz = np.random.default_rng(first + second).normal(0, 1, (3, frames, 25, 2))
    xyz[:, first:, :, 0] = 0
    xyz[:, second:, :, 1] = 0
    return xyz


def zeros_behind(row):
    return np.pad(row, ((0, 0), (0, 300 - row.shape[1]), (0, 0), (0, 0)))


ROWS = {
    'one body': (normalize(two_bodies(40, 0, 40)), 40),
    'two bodies': (normalize(two_bodies(70, 70, 70)), 70),
    'a body that leaves': (normalize(two_bodies(70, 31, 70)), 70),
    'both gone before the end': (normalize(two_bodies(50, 50, 70)), 70),
    'full length': (normalize(two_bodies(300, 200, 300)), 300),
    'one frame': (normalize(two_bodies(1, 0, 1)), 1),
    'zeros behind (another tool)': (zeros_behind(normalize(two_bodies(20, 20, 20), 20)), 20),
    'anything behind (another tool)': (np.random.default_rng(5).normal(size=(3, 300, 25, 2)).astype(np.float32), 33),
    'negative zeros': (np.full((3, 300, 25, 2), -0., np.float32), 12),
}


@pytest.mark.parametrize('kind', ROWS)
def test_trimming_is_lossless(kind):
    row, num_frame = ROWS[kind]
    frames, period = trim(row, num_frame)
    assert untrim(frames, period).tobytes() == np.ascontiguousarray(row).tobytes()


@pytest.mark.parametrize(('kind', 'kept'), [('one body', 40), ('two bodies', 70), ('a body that leaves', 300),
                                            ('both gone before the end', 70), ('zeros behind (another tool)', 20),
                                            ('anything behind (another tool)', 300), ('one frame', 1)])
def test_only_what_cannot_be_rebuilt_is_kept_whole(kind, kept):
    assert len(trim(*ROWS[kind])[0]) == kept


@pytest.fixture
def padded(tmp_path, padded_arrays):
    """A folder in the padded layout: the rows above, and others."""
    padded_arrays(tmp_path / 'xsub', train=len(ROWS), val=3)
    np.save(tmp_path / 'xsub/train_data_joint.npy', np.stack([row for row, _ in ROWS.values()]))
    np.save(tmp_path / 'xsub/train_num_frame.npy', [frames for _, frames in ROWS.values()])
    return tmp_path / 'xsub'


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_there_and_back_to_the_byte(padded):
    before = contents(padded)
    assert convert.main([str(padded), '--layout', 'trimmed']) is None
    names = {f'{part}_{kind}' for part in ('train', 'val')
             for kind in ('frame_joint.npy', 'trimmed.npz', 'num_frame.npy', 'label.pkl')}
    assert set(contents(padded)) == names
    convert.main([str(padded), '--layout', 'padded'])
    assert contents(padded) == before


def test_either_layout_loads_the_same(padded):
    one = {part: store.load(padded, part) for part in ('train', 'val')}
    convert.main([str(padded), '--layout', 'trimmed'])
    for part, clips in one.items():
        other = store.load(padded, part)
        assert torch.equal(clips.frames, other.frames)
        assert torch.equal(clips.length, other.length)
        assert (clips.names, clips.labels.tolist()) == (other.names, other.labels.tolist())


def test_blocks_of_any_size_read_the_same(padded, monkeypatch):
    convert.main([str(padded), '--layout', 'trimmed'])
    whole = store.load(padded, 'train').frames
    for size in (1, 2, 5):
        monkeypatch.setattr(store, 'CLIPS_AT_ONCE', size)
        assert torch.equal(store.load(padded, 'train').frames, whole)


def test_converting_twice_changes_nothing(padded, capsys):
    convert.main([str(padded), '--layout', 'trimmed'])
    before = contents(padded)
    convert.main([str(padded), '--layout', 'trimmed'])
    assert contents(padded) == before
    assert 'trimmed already' in capsys.readouterr().out


def test_nothing_to_convert_is_a_mistake(tmp_path, mistake):
    assert 'no prepared arrays' in mistake(convert.main, [tmp_path, '--layout', 'trimmed'])


def test_a_conversion_that_fails_leaves_the_arrays(padded, monkeypatch):
    before = contents(padded)

    def fall(*_):
        raise OSError('No space left on device')
    monkeypatch.setattr(convert.arrays, 'write_trimming', fall)
    with pytest.raises(OSError, match='No space'):
        convert.main([str(padded), '--layout', 'trimmed'])
    assert contents(padded) == before
