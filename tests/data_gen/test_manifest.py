"""The manifest: every change of the arrays that matters is noticed."""

import json
import pickle
from functools import partial

import numpy as np
import pytest

from data_gen import manifest
from data_gen.reader import SplitReader
from feeder.dataset import load_split
from tools.common.cli import InputError


@pytest.fixture
def prepare(tmp_path, write_skeleton, prepare_xsub):
    """prepare(layout): the folder of a prepared NTU-60 x-sub of eight recordings."""
    raw = tmp_path / 'raw/recordings'
    raw.mkdir(parents=True)
    for number in range(8):
        name = f'S001C001P{number + 1:03d}R001A{number % 3 + 1:03d}.skeleton'
        write_skeleton(raw / name, [1] * (10 + number), number)

    return partial(prepare_xsub, raw)


@pytest.fixture
def folder(prepare):
    return prepare('padded')


def change(file, edit):
    if file.suffix == '.pkl':
        names, labels = pickle.loads(file.read_bytes())
        edit(names, labels)
        file.write_bytes(pickle.dumps((names, labels)))
    else:
        array = np.load(file)
        edit(array)
        np.save(file, array)


def one_coordinate(array):
    array[2, 1, 4, 3, 0] += 1e-6


def one_frame(array):
    array[7, 0] = 0


def a_frame_behind_the_end(array):
    array[2, :, 250] = 9


def a_frame_count(array):
    array[0] -= 1


def two_labels(names, labels):
    labels[0], labels[1] = labels[1], labels[0]


def a_name(names, labels):
    names[0] = names[0].replace('R001', 'R002')


def two_frame_counts(array):
    array[0] -= 1
    array[1] += 1


@pytest.mark.parametrize(
    ('layout', 'kind', 'edit'),
    [
        ('padded', 'data_joint.npy', one_coordinate),
        ('padded', 'num_frame.npy', a_frame_count),
        ('padded', 'label.pkl', two_labels),
        ('padded', 'label.pkl', a_name),
        ('trimmed', 'frame_joint.npy', one_frame),
        ('trimmed', 'num_frame.npy', two_frame_counts),
        ('trimmed', 'label.pkl', two_labels),
        ('trimmed', 'label.pkl', a_name),
    ],
)
def test_changed_arrays_are_refused(prepare, layout, kind, edit):
    folder = prepare(layout)
    load_split(folder, 'train')
    change(folder / f'train_{kind}', edit)
    with pytest.raises(InputError, match='other names, labels or coordinates'):
        load_split(folder, 'train')
    load_split(folder, 'val')


def test_what_nobody_reads_may_differ(folder):
    change(folder / 'train_data_joint.npy', a_frame_behind_the_end)
    load_split(folder, 'train')


def test_another_number_of_clips_is_refused(folder):
    for split in ('train', 'val'):
        for kind in ('data_joint.npy', 'num_frame.npy', 'label.pkl'):
            (folder / f'{split}_{kind}').rename(folder / f'{split}.{kind}')
    for one, other in (('train', 'val'), ('val', 'train')):
        for kind in ('data_joint.npy', 'num_frame.npy', 'label.pkl'):
            (folder / f'{one}.{kind}').rename(folder / f'{other}_{kind}')
    with pytest.raises(InputError, match='3 clips, not 5'):
        load_split(folder, 'train')


@pytest.mark.parametrize('text', ['', '[]', '{"parts": {"train": {}}}', 'ÿ'])
def test_a_damaged_manifest_is_refused(folder, text):
    (folder / 'manifest.json').write_text(text, encoding='latin-1')
    with pytest.raises(InputError, match='manifest.json is not a manifest'):
        load_split(folder, 'train')


def test_arrays_without_a_manifest_are_warned_of_once(folder, capsys):
    (folder / 'manifest.json').unlink()
    load_split(folder, 'train')
    load_split(folder, 'val')
    assert capsys.readouterr().err.count('has no manifest.json') == 1


def test_both_layouts_have_the_same_hashes(prepare):
    padded, trimmed = (manifest.read(prepare(layout)) for layout in ('padded', 'trimmed'))
    assert trimmed == padded | {'layout': 'trimmed'}


def test_a_split_is_compared_by_what_was_read(folder):
    reader = SplitReader(folder, 'val')
    digests = list(manifest.clip_digests(reader.frames(range(3)), reader.num_frames))
    split = [reader.names, reader.labels, reader.num_frames, digests]
    assert manifest.check(folder, 'val', *split)
    with pytest.raises(InputError, match='the val split has other names, labels or coordinates'):
        manifest.check(folder, 'val', *split[:3], digests[::-1])
    with pytest.raises(InputError, match='the val split has 0 clips, not 3'):
        manifest.check(folder, 'val', [], [], [], [])
    (folder / 'manifest.json').unlink()
    assert not manifest.check(folder, 'val', *split)


def test_a_split_without_arrays(folder):
    content = json.loads((folder / 'manifest.json').read_text())
    del content['parts']['val']
    (folder / 'manifest.json').write_text(json.dumps(content))
    assert manifest.check(folder, 'val', [], [], [], [])
    with pytest.raises(InputError, match='3 clips, not 0'):
        load_split(folder, 'val')
