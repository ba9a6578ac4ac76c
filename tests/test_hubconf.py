"""The encoder through torch.hub: as another project loads it, and its methods."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import action_retrieval
import hubconf
from data_gen import custom_gendata
from data_gen.joint_maps import SKELETONS, matrix
from model.umurl import UmURL
from tools import checkpoint
from tools.common.cli import InputError


@pytest.fixture
def saved(tmp_path):
    """saved(**more): the path of a checkpoint of width 8 that was not trained, with more entries."""

    def save(**more):
        torch.manual_seed(0)
        model, path = UmURL(150, 192, 8), tmp_path / 'checkpoint_0450.pth.tar'
        checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 1, **more)
        return path

    return save


@pytest.fixture
def encoder(saved):
    return hubconf.umurl(saved())


def people(frames, bodies=1, seed=0):
    """Recordings (T, M, 25, 3) of random joints that move, 3 m away."""
    rng = np.random.default_rng(seed)
    return rng.normal((0, 0, 3), 0.5, (1, bodies, 25, 3)) + rng.normal(
        0, 0.05, (frames, bodies, 25, 3)
    )


def test_from_a_raw_file_to_its_five_nearest_neighbours(tmp_path, saved, write_skeleton):
    """The lines in the docstring, run in another project's folder; features are those of
    --save-features.
    """
    for number in range(8):
        bodies = people(
            40 + 40 * number, 1 + number % 3, number
        )  # also longer than 300 frames, and a third body
        write_skeleton(
            tmp_path / f'S001C001P00{1 + number}R001A001.skeleton', list(map(list, bodies))
        )
    lines = [
        f'S001C001P00{1 + number}R001A001.skeleton,sit,{"train" if number < 6 else "val"}'
        for number in range(8)
    ]
    (tmp_path / 'list.csv').write_text('\n'.join(['path,label,split', *lines]))
    custom_gendata.main(
        [
            '--recordings',
            str(tmp_path / 'list.csv'),
            '--out_folder',
            str(tmp_path / 'data/custom'),
            '--workers',
            '1',
        ]
    )
    action_retrieval.main(
        [
            '--pretrained',
            str(saved()),
            '--finetune-dataset',
            'custom',
            '--data-root',
            str(tmp_path / 'data'),
            '--save-features',
            str(tmp_path / 'features.npz'),
            '--device',
            'cpu',
        ]
    )
    example = re.search(r'\n((    .*\n)+)', hubconf.__doc__)[1].replace('\n    ', '\n').strip()
    assert len(example.splitlines()) <= 10
    check = """
clips = [encoder.read(f'S001C001P00{number}R001A001.skeleton') for number in range(1, 9)]
np.save('made.npy', encoder.features(clips))
np.save('one_by_one.npy', torch.cat([encoder.features([clip]) for clip in clips]))
torch.hub.load('path/of/this/folder', 'umurl', source='local', checkpoint='checkpoint_0450.pth.tar')  # again"""
    script = (example + check).replace(
        'path/of/this/folder', str(Path(hubconf.__file__).resolve().parent)
    )
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    names, similarities = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert len(set(names)) == 5
    assert names[0] == 'S001C001P001R001A001.skeleton'  # itself
    assert float(similarities[0]) == pytest.approx(1, abs=1e-3)
    assert list(map(float, similarities)) == sorted(map(float, similarities), reverse=True)
    with np.load(tmp_path / 'features.npz') as known:
        wanted = np.concatenate([known['train'], known['val']])
    for name in ('made', 'one_by_one'):
        np.testing.assert_allclose(np.load(tmp_path / f'{name}.npy'), wanted, atol=1e-5)


@pytest.mark.parametrize('file', ['/mine/model.py', None])  # None: a folder without an __init__.py
def test_a_clash_of_names_is_one_line(monkeypatch, file):
    mine = ModuleType('model')
    mine.__file__ = file
    monkeypatch.setitem(sys.modules, 'model', mine)
    with pytest.raises(
        ImportError, match='another module of this name is loaded already .*: rename'
    ) as error:
        runpy.run_path(hubconf.__file__)
    assert (file or 'from a folder') in str(error.value)
    assert '\n' not in str(error.value)


def test_one_body_with_and_without_its_axis(encoder):
    clip = people(30)
    assert encoder.features([clip[:, 0]]).equal(encoder.features([clip]))
    assert encoder([torch.from_numpy(clip)]).equal(encoder.features([clip]))


def test_other_skeletons_by_name(encoder):
    clip = people(30)
    kinect20 = clip[:, :, :20]
    mapped = matrix(SKELETONS['kinect20']) @ kinect20
    assert encoder.features([kinect20], joints='kinect20').equal(encoder.features([mapped]))
    turned = kinect20 * (-1, -1, 1)
    np.testing.assert_allclose(
        encoder.features([turned], joints='kinect20', axes='image'),
        encoder.features([mapped]),
        atol=1e-5,
    )


def test_modalities(encoder, saved):
    clip = people(30)
    both = encoder.features([clip], modalities=('motion', 'joint'))
    assert both.equal(encoder.features([clip], modalities=('joint', 'motion')))
    assert not both.allclose(encoder.features([clip]))
    config = {
        'dataset': 'ntu60',
        'protocol': 'cross_view',
        'objective': 'umurl',
        'modalities': ['joint'],
    }
    narrow = hubconf.umurl(saved(config=config).parent)  # a folder: its newest checkpoint
    assert narrow.features([clip]).equal(narrow.features([clip], modalities='joint'))
    with pytest.raises(InputError, match='there is no modality bone; some that are there: joint'):
        narrow.features([clip], modalities='bone')


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda encoder: encoder.features([people(5), people(5)[..., :24, :]]),
            r'clip 1: .* not numbers \(frames, 25',
        ),
        (
            lambda encoder: encoder.features([1000 * people(5)]),
            'clip 0: a body measures .* must be metres',
        ),
        (lambda encoder: encoder.features([np.zeros((5, 25, 3))]), 'clip 0: no body in any frame'),
        (lambda encoder: encoder.features([]), 'there are no clips'),
        (
            lambda encoder: encoder.features([people(5)], joints='coco'),
            'no skeleton coco; some that are there: coco17',
        ),
        (lambda encoder: encoder.features([people(5)], axes='picture'), 'no kind of axes picture'),
        (
            lambda encoder: encoder.features([people(5)], modalities=['bones']),
            'no modality bones; .*: bone, ',
        ),
        (lambda encoder: encoder.read('none.skeleton'), 'none.skeleton: cannot be read'),
        (
            lambda encoder: encoder.read(__file__),
            'test_hubconf.py: line 1: expected the number of frames',
        ),
        (lambda encoder: hubconf.umurl('none.pth.tar'), 'none.pth.tar: no such checkpoint'),
    ],
)
def test_bad_input_is_one_clear_line(encoder, call, message):
    with pytest.raises(InputError, match=message) as error:
        call(encoder)
    assert '\n' not in str(error.value)
