"""NW-UCLA: files in the names and the form that CTR-GCN passes on, and what becomes of them."""

import json
import pickle

import numpy as np
import pytest
from known_body import actors, wear

from data_gen import manifest, nwucla_gendata
from data_gen.joint_maps import SKELETONS, to_ntu
from data_gen.preprocess import normalize
from data_gen.protocols import DATASETS, Data

ACTIONS = [1, 2, 3, 4, 5, 6, 8, 9, 11, 12]


@pytest.fixture
def prepare(tmp_path):
    def command(*flags):
        where = [
            '--data_path',
            str(tmp_path / 'all_sqe'),
            '--out_folder',
            str(tmp_path / 'NW-UCLA'),
        ]
        return nwucla_gendata.main([*where, '-j', '1', *flags])

    return command


def write(folder, name, frames=8, seed=0):
    """One recording; returns its joints (T, 20, 3)."""
    body = actors(frames + 1, seed=seed)[:frames, 0]
    joints = wear(body, SKELETONS['kinect20'].names) + (0, 0, 3)
    joints = joints.round(6)
    folder.mkdir(exist_ok=True)
    content = {'file_name': name, 'skeletons': joints.tolist(), 'label': 1}
    (folder / f'{name}.json').write_text(json.dumps(content))
    return joints


def read_split(folder, split):
    names, labels = pickle.loads((folder / f'{split}_label.pkl').read_bytes())
    data = np.load(folder / f'{split}_data_joint.npy')
    return data, np.load(folder / f'{split}_num_frame.npy').tolist(), names, labels


def test_views_actions_and_lengths(prepare, tmp_path, capsys):
    train, val = {}, {}
    for number, action in enumerate(ACTIONS):
        for view in (1, 2, 3):
            name = f'a{action:02d}_s{number + 1:02d}_e00_v{view:02d}'
            clips = val if view == 3 else train
            clips[name] = write(tmp_path / 'all_sqe', name, 1 + 9 * number, number), number
    (tmp_path / 'all_sqe' / 'a07_s01_e00_v01.json').write_text('no action of the ten')
    assert prepare() == 0
    folder = tmp_path / 'NW-UCLA' / 'xview'
    for split, clips in (('train', train), ('val', val)):
        data, num_frames, names, labels = read_split(folder, split)
        assert names == [*clips]
        assert labels == [label for _, label in clips.values()]
        assert num_frames == [len(joints) for joints, _ in clips.values()]
        for row, (joints, _) in zip(data, clips.values(), strict=True):
            body = to_ntu(joints, 'kinect20', 'kinect')
            xyz = np.stack([body, np.zeros_like(body)], -1).transpose(2, 0, 1, 3)
            np.testing.assert_allclose(row, normalize(xyz), rtol=0, atol=1e-5)
    shown = capsys.readouterr()
    assert 'not the official counts: 1020 + 464' in shown.out
    assert 'warning' not in shown.err


def test_it_is_a_data_set_as_the_others(prepare, tmp_path):
    write(tmp_path / 'all_sqe', 'a01_s03_e02_v02')
    write(tmp_path / 'all_sqe', 'a12_s10_e00_v03', seed=1)
    assert prepare() == 0
    data = Data(tmp_path, 'nwucla', 'cross_view')
    assert data.folder == tmp_path / 'NW-UCLA' / 'xview'
    assert (data.class_name(0), data.class_name(9)) == ('A001 pick up with one hand', 'A012 carry')
    assert data.performers(['a01_s03_e02_v02', 'a12_s10_e00_v03']) == ['03', '10']
    assert data.num_classes([9]) == DATASETS['nwucla'].classes == 10
    assert DATASETS['nwucla'].counts == {'xview': (1020, 464)}


def test_an_unusable_file_is_skipped_with_the_reason(prepare, tmp_path):
    write(tmp_path / 'all_sqe', 'a01_s01_e00_v01')
    write(tmp_path / 'all_sqe', 'a01_s01_e00_v03')
    broken = {'skeletons': [[[0, 0, 0]] * 20]}
    (tmp_path / 'all_sqe' / 'a02_s01_e00_v01.json').write_text(json.dumps(broken))
    (tmp_path / 'all_sqe' / 'a03_s01_e00_v01.json').write_text('{"skeletons": [[')
    assert prepare() == 0
    skipped = manifest.read(tmp_path / 'NW-UCLA' / 'xview')['skipped']
    assert skipped.keys() == {'a02_s01_e00_v01', 'a03_s01_e00_v01'}
    assert 'no body' in skipped['a02_s01_e00_v01']


def test_axes_that_are_not_kinects_get_a_warning(prepare, tmp_path, capsys):
    for view in (1, 3):
        name = f'a01_s01_e00_v{view:02d}'
        joints = write(tmp_path / 'all_sqe', name) * (-1, 1, 1)
        content = {'skeletons': joints[..., [0, 2, 1]].tolist()}
        (tmp_path / 'all_sqe' / f'{name}.json').write_text(json.dumps(content))
    assert prepare() == 0
    assert '--axes zup' in capsys.readouterr().err
    assert prepare('--axes', 'zup', '--overwrite') == 0
    assert 'warning' not in capsys.readouterr().err


def test_a_folder_without_recordings(prepare, tmp_path, mistake):
    (tmp_path / 'all_sqe').mkdir()
    flags = ['--data_path', tmp_path / 'all_sqe']
    assert 'no a01_s01_e00_v01.json' in mistake(nwucla_gendata.main, flags)
