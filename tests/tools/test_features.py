"""Extraction of several subsets at once, by one process or several, and what is kept in files."""
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

import action_retrieval
from data_gen.cli import InputError
from feeder.feeders import downstream_batches
from model.umurl import UmURL
from tools import checkpoint, feature_files, features, sharding

ROOT = Path(__file__).resolve().parents[2]
JOINT, BONE, MOTION = ('joint',), ('bone',), ('motion',)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UmURL(150, 192, 8).eval()


@pytest.fixture
def clips(made_store):
    return made_store([70, 10, 33, 64, 100, 5, 81, 40, 40, 12, 90])


@pytest.fixture
def asked():
    """asked(**flags): the arguments that the choice of subsets reads."""
    return lambda **flags: Namespace(**{'modalities': ['joint', 'bone', 'motion'], 'ensemble': False,
                                        'all_modalities': False} | flags)


def test_the_seven_subsets():
    assert ['+'.join(subset) for subset in features.SUBSETS] == [
        'joint', 'bone', 'motion', 'joint+bone', 'joint+motion', 'bone+motion', 'joint+bone+motion']


def test_one_pass_gives_what_a_pass_for_each_subset_gives(model, clips):
    together = features.extract_each(model.backbone, clips, features.SUBSETS, 4)
    assert len({made.numpy().tobytes() for made in together}) == 7
    for subset, made in zip(features.SUBSETS, together, strict=True):
        assert made.equal(features.extract(model.backbone, clips, subset, 4))
        whole = model.backbone.encode(next(downstream_batches(clips, len(clips), subset)))
        torch.testing.assert_close(made, whole.detach(), rtol=1e-5, atol=1e-5)


def test_each_modality_is_embedded_once_a_batch(model, clips):
    calls = []
    for name, embedding in model.backbone.embeddings().items():
        embedding.register_forward_hook(lambda *_, name=name: calls.append(name))
    features.extract_each(model.backbone, clips, [JOINT, ('joint', 'motion'), MOTION], 6)
    assert calls == ['joint', 'motion'] * 2


def test_a_head_can_be_trained_on_them(model, clips):
    made = features.extract(model.backbone, clips, JOINT, 6)
    assert not made.is_inference()
    assert not made.requires_grad
    torch.nn.Linear(16, 1)(made).sum().backward()


def test_features_of_autocast_are_float32(model, clips):
    made, exact = (features.extract(model.backbone, clips, JOINT, 6, dtype) for dtype in (torch.bfloat16, None))
    assert made.dtype == torch.float32
    assert 0 < (made - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize(('flags', 'rows', 'chosen'), [
    ({'modalities': ['bone']}, {'bone': [BONE]}, 'bone'),
    ({'modalities': ['joint', 'bone']}, {'joint+bone': [('joint', 'bone')]}, 'joint+bone'),
    ({'ensemble': True, 'modalities': ['joint', 'motion']},
     {'joint': [JOINT], 'motion': [MOTION], '2s': [JOINT, MOTION]}, '2s'),
    ({'all_modalities': True}, {'+'.join(subset): [subset] for subset in features.SUBSETS}
     | {'3s': [JOINT, BONE, MOTION]}, 'joint+bone+motion'),
])
def test_rows_of_the_table(asked, flags, rows, chosen):
    assert features.rows(asked(**flags)) == rows
    assert features.chosen(asked(**flags)) == chosen


def test_subsets_are_needed_once_each(asked):
    assert features.subsets(asked(all_modalities=True)) == features.SUBSETS
    assert features.subsets(asked(ensemble=True)) == [JOINT, BONE, MOTION]


def test_shares_are_all_clips_in_order(clips, monkeypatch):
    monkeypatch.setattr(sharding, 'world_size', lambda: 4)
    shares = []
    for number in range(4):
        monkeypatch.setattr(sharding, 'rank', lambda number=number: number)
        shares.append(sharding.own_share(clips))
    assert [len(share) for share in shares] == [2, 3, 3, 3]
    assert torch.cat([share.frames for share in shares]).equal(clips.frames)
    assert torch.cat([share.length for share in shares]).equal(clips.length)
    assert sum([share.names for share in shares], []) == clips.names


@pytest.fixture
def setting(tmp_path, padded_arrays, model):
    """Flags for 31 training clips and a single test clip, neither a multiple of two."""
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=31, val=1)
    checkpoint.save(tmp_path / 'c.pth.tar', model, torch.optim.Adam(model.parameters()), 1)
    return ['--data-root', str(tmp_path / 'data'), '--pretrained', str(tmp_path / 'c.pth.tar'), '--device', 'cpu',
            '--ensemble', '--modalities', 'joint', 'bone']


def test_two_processes_extract_what_one_does(setting, tmp_path):
    def flags(name):
        return [*setting, '--save-features', str(tmp_path / f'{name}.npz'), '--results', str(tmp_path / f'{name}.json')]
    action_retrieval.main(flags('one'))
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2',
               'action_retrieval.py', *flags('two')]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert done.stdout.count('test clips query') == 1
    assert done.stderr.count('has no manifest.json') == 1
    for subset in ('joint', 'bone'):
        one, two = (np.load(tmp_path / f'{name}_{subset}.npz') for name in ('one', 'two'))
        assert one['train'].shape == (31, 16)
        for part in ('train', 'val'):
            np.testing.assert_allclose(two[part], one[part], rtol=1e-5, atol=1e-5)
            assert (two[f'{part}_labels'] == one[f'{part}_labels']).all()
    one, two = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('one', 'two'))
    assert (two['predictions'], two['checkpoint_sha256']) == (one['predictions'], one['checkpoint_sha256'])


@pytest.fixture
def kept(tmp_path, asked):
    """kept(): write and read features of the three single modalities; what the flags would say of them."""
    def write():
        parts = feature_files.Features(torch.randn(5, 4), torch.arange(5), torch.randn(2, 4), torch.arange(2))
        data = {subset: parts._replace(train=torch.full((5, 4), float(number)))
                for number, subset in enumerate((JOINT, BONE, MOTION))}
        feature_files.save_each(data, args)
        return data
    args = asked(ensemble=True, dataset='ntu60', protocol='cross_view', checkpoint_sha256='ab', data_sha256=None,
                 pretrained_on={'seed': 1}, save_features=tmp_path / 'f.npz', load_features=tmp_path / 'f.npz')
    return args, write


def test_several_subsets_are_kept_in_a_file_each(kept, tmp_path):
    args, write = kept
    data = write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['f_bone.npz', 'f_joint.npz', 'f_motion.npz']
    args.checkpoint_sha256 = args.pretrained_on = None
    again = feature_files.load_each([JOINT, BONE, MOTION], args)
    for subset, parts in data.items():
        assert all(one.equal(two) for one, two in zip(parts, again[subset], strict=True))
    assert (args.checkpoint_sha256, args.pretrained_on) == ('ab', {'seed': 1})
    assert args.modalities == ['joint', 'bone', 'motion']


@pytest.mark.parametrize(('damage', 'message'), [
    ('missing', 'f_bone.npz: no such file'), ('another subset', 'f_bone.npz: these are not the features of bone'),
    ('another checkpoint', 'f_bone.npz: of another checkpoint'), ('other labels', 'f_bone.npz: of another checkpoint')])
def test_files_that_do_not_belong_together(kept, tmp_path, damage, message):
    args, write = kept
    write()
    bone = tmp_path / 'f_bone.npz'
    if damage == 'missing':
        bone.unlink()
    elif damage == 'another subset':
        (tmp_path / 'f_motion.npz').rename(bone)
    else:
        arrays = dict(np.load(bone))
        if damage == 'other labels':
            arrays['val_labels'] = arrays['val_labels'][::-1]
        else:
            arrays['about'] = json.dumps(json.loads(str(arrays['about'])) | {'checkpoint_sha256': 'cd'})
        np.savez(bone, **arrays)
    with pytest.raises(InputError, match=message):
        feature_files.load_each([JOINT, BONE, MOTION], args)
