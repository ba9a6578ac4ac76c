"""A split in memory: the valid frames of arrays on disk, and the errors for arrays that cannot be
used.
"""

import os
import pickle

import numpy as np
import pytest
import torch

from data_gen import demo_recordings
from data_gen.preprocess import normalize, rotation_to_x
from data_gen.skeleton import read_xyz
from feeder import dataset
from feeder.dataset import ClipDataset
from tools.common.cli import InputError


def rewrite(file, change):
    np.save(file, change(np.load(file)))


def assert_equal_to(clips, made, ours):
    data, num_frame, names, labels = made
    assert clips.names == names
    assert clips.labels.tolist() == labels
    assert clips.num_frames.tolist() == num_frame.tolist()
    assert (clips.frames.dtype, clips.num_frames.dtype, clips.labels.dtype) == (
        torch.float32,
        torch.int64,
        torch.int64,
    )
    assert len(clips.frames) == num_frame.sum()
    for clip, start, length in zip(data, clips.start, num_frame, strict=True):
        assert clips.frames[start : start + length].equal(ours(clip)[:length])


@pytest.mark.parametrize('rows_at_once', [1, 3, 64])
def test_valid_frames_of_every_clip(tmp_path, padded_arrays, ours, monkeypatch, rows_at_once):
    monkeypatch.setattr(dataset, 'CLIPS_PER_CHUNK', rows_at_once)
    made = padded_arrays(tmp_path, train=20, val=5)  # 20 clips are read by memory map, 5 are not
    for part in ('train', 'val'):
        clips = dataset.load_split(tmp_path, part)
        assert len(clips) == len(made[part][0])
        assert_equal_to(clips, made[part], ours)


def test_arrays_as_other_projects_write_them(tmp_path, padded_arrays, ours):
    made = padded_arrays(tmp_path)
    rewrite(tmp_path / 'train_data_joint.npy', lambda data: np.asfortranarray(data, np.float64))
    rewrite(tmp_path / 'train_num_frame.npy', lambda count: count.astype(np.int32))
    (tmp_path / 'train_label.pkl').write_bytes(pickle.dumps(made['train'][2:], protocol=2))
    assert_equal_to(dataset.load_split(tmp_path, 'train'), made['train'], ours)


def test_nonsense_behind_the_valid_frames_is_not_read(tmp_path, padded_arrays, ours):
    made = padded_arrays(tmp_path)
    rewrite(tmp_path / 'train_data_joint.npy', lambda data: np.where(data == 77, np.nan, data))
    assert_equal_to(dataset.load_split(tmp_path, 'train'), made['train'], ours)


def test_frame_counts_beyond_the_stored_frames_are_cut_with_a_note(tmp_path, padded_arrays, capsys):
    padded_arrays(tmp_path)
    rewrite(tmp_path / 'train_num_frame.npy', lambda count: np.where(np.arange(8) == 2, 300, count))
    assert dataset.load_split(tmp_path, 'train').num_frames[2] == 100
    assert 'note: ' in (line := capsys.readouterr().err)
    assert 'train_num_frame.npy: 1 clips have more frames than the 100 that are stored' in line


@pytest.mark.parametrize('kind', [np.int64, np.int32, np.float64, np.array, int])
@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_labels_as_numpy_numbers(tmp_path, padded_arrays, kind, protocol):
    *_, names, labels = padded_arrays(tmp_path)['train']
    numbers = np.array(labels)
    for written in (
        [kind(label) for label in labels],
        numbers,
        numbers[:, None],
        numbers.astype('>i2'),
        numbers.astype(object),
        numbers.astype(np.float32),
    ):
        (tmp_path / 'train_label.pkl').write_bytes(
            pickle.dumps((np.array(names), written), protocol)
        )
        assert dataset.load_split(tmp_path, 'train').labels.tolist() == labels


def test_labels_alone_in_an_npy(tmp_path, padded_arrays):
    *_, labels = padded_arrays(tmp_path)['train']
    (tmp_path / 'train_label.pkl').unlink()
    np.save(tmp_path / 'train_label.npy', labels)
    clips = dataset.load_split(tmp_path, 'train')
    assert clips.labels.tolist() == labels
    assert clips.names[3] == 'train_label 3'


@pytest.mark.parametrize('wrong', [2.5, np.nan, np.inf])
def test_labels_that_are_not_whole_numbers_are_refused(tmp_path, padded_arrays, wrong):
    *_, names, labels = padded_arrays(tmp_path)['train']
    labels[3] = wrong
    (tmp_path / 'train_label.pkl').write_bytes(pickle.dumps((names, labels)))
    with pytest.raises(
        InputError, match=f'train_label.pkl: label {wrong} of clip 3 is not a whole number'
    ):
        dataset.load_split(tmp_path, 'train')
    (tmp_path / 'train_label.pkl').unlink()
    np.save(tmp_path / 'train_label.npy', labels)
    with pytest.raises(InputError, match='train_label.npy: label'):
        dataset.load_split(tmp_path, 'train')


def test_any_file_names(tmp_path, padded_arrays):
    *_, labels = padded_arrays(tmp_path)['train']
    names = ['', 'S001', 'a b.avi', 7, *'wxyz']
    (tmp_path / 'train_label.pkl').write_bytes(pickle.dumps((names, labels)))
    assert dataset.load_split(tmp_path, 'train').names == list(map(str, names))


@pytest.mark.parametrize(
    ('tilt', 'warned'), [(0, True), (10, True), (20, False), (90, False), (180, False)]
)
def test_spines_along_z_get_a_warning(tmp_path, padded_arrays, capsys, tilt, warned):
    """The rule of CMD's arrays; joint 0 is the base of the spine, joint 1 its middle."""

    def turn(data):
        data[:, :, :, 0] = 0
        data[:, :, :, 1] = np.array([np.sin(np.radians(tilt)), 0, np.cos(np.radians(tilt))])[
            :, None, None
        ]
        return data

    padded_arrays(tmp_path)
    for split in ('train', 'val'):
        rewrite(tmp_path / f'{split}_data_joint.npy', turn)
        dataset.load_split(tmp_path, split)
    assert capsys.readouterr().err.count('WARNING: in') == warned  # once


@pytest.mark.parametrize('upright', [False, True])
def test_spines_of_synthetic_recordings(tmp_path, capsys, upright):
    """As prepared here, no spine is along z; 2s-AGCN's script turns the spine along z, then the
    shoulders along x.
    """
    demo_recordings.write_recordings(tmp_path / 'raw', performers=4, classes=3, frames=(10, 20))
    clips = np.stack(
        [normalize(read_xyz(path)) for path in sorted((tmp_path / 'raw').rglob('*.skeleton'))]
    )
    for clip in clips if upright else ():
        z_first = np.eye(3)[[2, 0, 1]]
        to_z = z_first.T @ rotation_to_x(z_first @ (clip[:, 0, 1, 0] - clip[:, 0, 0, 0])) @ z_first
        clip[:] = np.einsum('ij,jtvm->itvm', to_z, clip)
        clip[:] = np.einsum(
            'ij,jtvm->itvm', rotation_to_x(clip[:, 0, 8, 0] - clip[:, 0, 4, 0]), clip
        )
    np.save(tmp_path / 'train_data_joint.npy', clips)
    np.save(tmp_path / 'train_num_frame.npy', np.full(len(clips), 10))
    np.save(tmp_path / 'train_label.npy', np.zeros(len(clips), int))
    dataset.load_split(tmp_path, 'train')
    assert ('WARNING: in' in capsys.readouterr().err) is upright


def test_moves_every_tensor_to_a_device(random_dataset):
    clips = random_dataset([3, 4]).to('meta')
    assert {
        tensor.device.type for tensor in (clips.frames, clips.start, clips.num_frames, clips.labels)
    } == {'meta'}


class Harm:
    """Unpickled by `pickle.load`, this would run a command."""

    def __reduce__(self):
        return os.system, ('touch harmed',)


class ForgedDtype:
    """Objects, but with flags that say plain numbers: numpy would take the array's bytes for
    pointers, and crash.
    """

    def __reduce__(self):
        return np.dtype, ('O8', False, True), (3, '|', None, None, None, -1, -1, 0)


class ForgedArray:
    def __reduce__(self):
        return (
            np.zeros(0).__reduce__()[0],
            (np.ndarray, (0,), b'b'),
            (1, (1,), ForgedDtype(), False, b'A' * 8),
        )


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def spoil(clip, frame, value):
    def change(data):
        data[clip, 1, frame, 5, 1] = value
        return data

    return change


def lose_a_name(file):
    names, labels = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps((names[1:], labels)))


UNUSABLE = {
    'no data': ('data_joint.npy', os.remove, 'not there'),
    'no counts': ('num_frame.npy', os.remove, 'not there'),
    'no labels': ('label.pkl', os.remove, 'not there'),
    'data cut off': ('data_joint.npy', cut, 'not a numpy array'),
    'counts cut off': ('num_frame.npy', cut, 'not a numpy array'),
    'labels cut off': ('label.pkl', cut, 'not a pickle of'),
    'empty data': ('data_joint.npy', lambda file: file.write_bytes(b''), 'not a numpy array'),
    'text for data': (
        'data_joint.npy',
        lambda file: file.write_text('frames'),
        'not a numpy array',
    ),
    'objects for data': (
        'data_joint.npy',
        lambda file: np.save(file, np.array([{}])),
        'not a numpy array',
    ),
    'other shape': (
        'data_joint.npy',
        lambda file: rewrite(file, lambda data: data[:, :, :, :20]),
        'expected',
    ),
    'one clip less': (
        'data_joint.npy',
        lambda file: rewrite(file, lambda data: data[1:]),
        '{fewer} clips, {all} frame counts',
    ),
    'one count less': (
        'num_frame.npy',
        lambda file: rewrite(file, lambda count: count[1:]),
        '{all} clips, {fewer} frame counts',
    ),
    'no frame': (
        'num_frame.npy',
        lambda file: rewrite(file, lambda count: count * (count != count[3])),
        'clip 3 ',
    ),
    'nan': (
        'data_joint.npy',
        lambda file: rewrite(file, spoil(4, 0, np.nan)),
        r'clip 4 \(S001C001P005R001A002',
    ),
    'infinity': ('data_joint.npy', lambda file: rewrite(file, spoil(6, 9, np.inf)), 'clip 6 '),
    'one name less': ('label.pkl', lose_a_name, '{all} labels and {fewer} names'),
    'labels that run code': (
        'label.pkl',
        lambda file: file.write_bytes(pickle.dumps(Harm())),
        'system',
    ),
    'labels without names': (
        'label.pkl',
        lambda file: file.write_bytes(pickle.dumps([0] * 8)),
        'not a pickle of',
    ),
    'a label that is no number': (
        'label.pkl',
        lambda file: file.write_bytes(pickle.dumps((['a'], ['b']))),
        'labels must be',
    ),
    'a forged dtype': (
        'label.pkl',
        lambda file: file.write_bytes(pickle.dumps((['a'], ForgedArray()))),
        'not a pickle of',
    ),
    'labels in a table': (
        'label.pkl',
        lambda file: file.write_bytes(pickle.dumps((['a'], np.eye(3)))),
        r'labels must be .* found \(3, 3\)',
    ),
}


@pytest.mark.parametrize(('kind', 'damage', 'reason'), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize('clips', [8, 20], ids=['small', 'by memory map'])
def test_unusable_arrays_are_named(
    tmp_path, padded_arrays, monkeypatch, clips, kind, damage, reason
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, 'CLIPS_PER_CHUNK', 3)
    padded_arrays(tmp_path, train=clips)
    reason = reason.format(all=clips, fewer=clips - 1)
    damage(tmp_path / f'train_{kind}')
    with pytest.raises(InputError, match=reason) as error:
        dataset.load_split(tmp_path, 'train')
    assert str(tmp_path) in str(error.value)
    assert kind in str(error.value) or 'in the train split' in str(error.value)
    assert not (tmp_path / 'harmed').exists()
    assert len(dataset.load_split(tmp_path, 'val')) == 4


def test_a_part_without_clips(tmp_path, padded_arrays):
    padded_arrays(tmp_path, val=0)
    with pytest.raises(InputError, match='holds no clips'):
        dataset.load_split(tmp_path, 'val')


@pytest.mark.parametrize(
    ('kind', 'array'),
    [
        ('num_frame', np.full(4, 5.0)),
        ('num_frame', np.full((4, 1), 5)),
        ('num_frame', np.array(5)),
        ('data_joint', np.full((4, 3, 100, 25, 2), 'a')),
        ('data_joint', np.full((4, 3, 100, 25, 2), 1e300)),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, padded_arrays, kind, array):
    padded_arrays(tmp_path)
    np.save(tmp_path / f'val_{kind}.npy', array)
    with np.errstate(over='ignore'), pytest.raises(InputError, match=f'val_{kind}.npy'):
        dataset.load_split(tmp_path, 'val')


def test_a_second_body_is_one_number_that_is_not_zero(random_dataset):
    made = random_dataset([5, 9, 3, 7])
    made.frames[:, 1] = 0
    made.frames[5 + 8, 1, 24, 2] = 1e-40  # the last frame of clip 1
    made.frames[5 + 9 + 3, 1, 0, 0] = -1  # the first of clip 3
    found = ClipDataset(made.frames, made.num_frames, made.labels, made.names)
    assert found.second_body.tolist() == [False, True, False, True]
    assert found.select(torch.tensor([3, 0, 0])).second_body.tolist() == [True, False, False]
    assert found.to(torch.device('cpu')).second_body.equal(found.second_body)
