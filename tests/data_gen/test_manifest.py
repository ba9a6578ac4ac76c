"""The manifest: what it is held against, and that no change of the arrays gets past it."""
import json
import pickle

import numpy as np
import pytest

from data_gen import convert, ntu_gendata
from data_gen.cli import InputError
from feeder import store


@pytest.fixture
def folder(tmp_path, write_skeleton):
    """A prepared NTU-60 x-sub of eight recordings."""
    raw = tmp_path / 'raw/recordings'
    raw.mkdir(parents=True)
    for number in range(8):
        name = f'S001C001P{number + 1:03d}R001A{number % 3 + 1:03d}.skeleton'
        write_skeleton(raw / name, [1] * (10 + number), number)
    ntu_gendata.main(['--dataset', 'ntu60', '--benchmark', 'xsub', '--data_path', str(raw), '--out_folder',
                      str(tmp_path / 'out'), '-j', '1'])
    return tmp_path / 'out/xsub'


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


def a_frame_behind_the_end(array):
    array[2, :, 250] = 9


def a_frame_count(array):
    array[0] -= 1


def two_labels(names, labels):
    labels[0], labels[1] = labels[1], labels[0]


def a_name(names, labels):
    names[0] = names[0].replace('R001', 'R002')


@pytest.mark.parametrize(('kind', 'edit'), [('data_joint.npy', one_coordinate), ('num_frame.npy', a_frame_count),
                                            ('label.pkl', two_labels), ('label.pkl', a_name)])
@pytest.mark.parametrize('layout', ['padded', 'trimmed'])
def test_changed_arrays_are_refused(folder, kind, edit, layout):
    store.load(folder, 'train')
    change(folder / f'train_{kind}', edit)
    if layout == 'trimmed':
        convert.main([str(folder), '--layout', 'trimmed'])
    with pytest.raises(InputError, match='other names, labels or coordinates'):
        store.load(folder, 'train')
    store.load(folder, 'val')


def test_what_nobody_reads_may_differ(folder):
    change(folder / 'train_data_joint.npy', a_frame_behind_the_end)
    store.load(folder, 'train')


def test_another_number_of_clips_is_refused(folder):
    for part in ('train', 'val'):
        for kind in ('data_joint.npy', 'num_frame.npy', 'label.pkl'):
            (folder / f'{part}_{kind}').rename(folder / f'{part}.{kind}')
    for one, other in (('train', 'val'), ('val', 'train')):
        for kind in ('data_joint.npy', 'num_frame.npy', 'label.pkl'):
            (folder / f'{one}.{kind}').rename(folder / f'{other}_{kind}')
    with pytest.raises(InputError, match='3 clips, not 5'):
        store.load(folder, 'train')


@pytest.mark.parametrize('text', ['', '[]', '{"parts": {"train": {}}}', 'ÿ'])
def test_a_damaged_manifest_is_said(folder, text):
    (folder / 'manifest.json').write_text(text, encoding='latin-1')
    with pytest.raises(InputError, match='manifest.json is not a manifest'):
        store.load(folder, 'train')


def test_arrays_without_a_manifest_are_warned_of_once(folder, capsys):
    (folder / 'manifest.json').unlink()
    store.load(folder, 'train')
    store.load(folder, 'val')
    assert capsys.readouterr().err.count('has no manifest.json') == 1


def test_conversion_keeps_the_manifest_true(folder):
    before = json.loads((folder / 'manifest.json').read_text())
    convert.main([str(folder), '--layout', 'trimmed'])
    assert json.loads((folder / 'manifest.json').read_text()) == before | {'layout': 'trimmed'}
    store.load(folder, 'train')
