"""Extraction of several subsets at once, the file they are saved in, and evaluation under a
launcher.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from feeder.feeders import downstream_batches
from model.umurl import UmURL
from tools import checkpoint
from tools.common.cli import InputError
from tools.evaluation import feature_files, features, flops
from tools.evaluation.feature_files import Features
from tools.evaluation.late_fusion import SUBSETS, FusionRow, fusion_rows, main_row, needed_subsets
from tools.results import Origin

ROOT = Path(__file__).resolve().parents[3]
JOINT, BONE, MOTION = ('joint',), ('bone',), ('motion',)
ALL = ['joint', 'bone', 'motion']
ORIGIN = Origin('ab', None, {'seed': 1}, ['b', 'a'], [3, 4], list('vwxyz'))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UmURL(150, 192, 8).eval()


@pytest.fixture
def clips(random_dataset):
    return random_dataset([70, 10, 33, 64, 100, 5, 81, 40, 40, 12, 90])


def test_the_seven_subsets():
    assert ['+'.join(subset) for subset in SUBSETS] == [
        'joint',
        'bone',
        'motion',
        'joint+bone',
        'joint+motion',
        'bone+motion',
        'joint+bone+motion',
    ]


def test_one_pass_gives_what_a_pass_for_each_subset_gives(model, clips):
    together = features.extract_subsets(model.backbone, clips, SUBSETS, 4)
    assert len({values.numpy().tobytes() for values in together.values()}) == 7
    assert list(together) == SUBSETS
    for subset, values in together.items():
        assert values.equal(features.extract_subsets(model.backbone, clips, [subset], 4)[subset])
        whole = model.backbone.encode(next(downstream_batches(clips, len(clips), subset)))
        torch.testing.assert_close(values, whole.detach(), rtol=1e-5, atol=1e-5)


def test_each_modality_is_embedded_once_a_batch(model, clips):
    calls = []
    for name, embedding in model.backbone.embeddings().items():
        embedding.register_forward_hook(lambda *_, name=name: calls.append(name))
    features.extract_subsets(model.backbone, clips, [JOINT, ('joint', 'motion'), MOTION], 6)
    assert calls == ['joint', 'motion'] * 2


def test_the_cost_of_each_subset(model):
    """One fused pass costs less than the passes of its modalities; counted without running
    anything.
    """
    costs = flops.gflops_per_clip(model.backbone, SUBSETS)
    assert costs['joint'] == costs['bone'] == costs['motion'] > 0
    assert costs['joint'] < costs['joint+bone'] < costs['joint+bone+motion'] < 3 * costs['joint']
    assert model.backbone.j_emb.t_embedding[0].weight.device.type == 'cpu'


def test_a_head_can_be_trained_on_them(model, clips):
    (values,) = features.extract_subsets(model.backbone, clips, [JOINT], 6).values()
    assert not values.is_inference()
    assert not values.requires_grad
    torch.nn.Linear(16, 1)(values).sum().backward()


def test_features_of_autocast_are_float32(model, clips):
    half, exact = (
        features.extract_subsets(model.backbone, clips, [JOINT], 6, dtype)[JOINT]
        for dtype in (torch.bfloat16, None)
    )
    assert half.dtype == torch.float32
    assert 0 < (half - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize(
    ('flags', 'rows', 'main'),
    [
        ((['bone'],), [FusionRow('bone', [BONE])], 'bone'),
        ((['joint', 'bone'],), [FusionRow('joint+bone', [('joint', 'bone')])], 'joint+bone'),
        (
            (['joint', 'motion'], True),
            [
                FusionRow('joint', [JOINT]),
                FusionRow('motion', [MOTION]),
                FusionRow('2s', [JOINT, MOTION]),
            ],
            '2s',
        ),
        (
            (ALL, True),
            [
                FusionRow('joint', [JOINT]),
                FusionRow('bone', [BONE]),
                FusionRow('motion', [MOTION]),
                FusionRow('3s', [JOINT, BONE, MOTION]),
            ],
            '3s',
        ),
        (
            (ALL, False, True),
            [FusionRow('+'.join(subset), [subset]) for subset in SUBSETS]
            + [FusionRow('3s', [JOINT, BONE, MOTION])],
            'joint+bone+motion',
        ),
    ],
)
def test_rows_of_the_table(flags, rows, main):
    assert fusion_rows(*flags) == rows
    assert main_row(rows, *flags[:2]).name == main


def test_no_other_row_stands_in_for_the_main_one():
    rows = fusion_rows(ALL, all_modalities=True)
    without = [row for row in rows if row.name != 'joint+bone+motion']
    with pytest.raises(InputError, match=r'there is no row joint\+bone\+motion'):
        main_row(without, ALL)
    with pytest.raises(InputError, match='there is no row 3s'):
        main_row(rows[:-1], ALL, ensemble=True)


def test_each_subset_is_needed_once():
    assert needed_subsets(fusion_rows(ALL, all_modalities=True)) == SUBSETS
    assert needed_subsets(fusion_rows(ALL, ensemble=True)) == [JOINT, BONE, MOTION]


def test_under_torchrun_one_process_evaluates(tmp_path, padded_arrays, model):
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=12, val=3)
    checkpoint.save(tmp_path / 'c.pth.tar', model, torch.optim.Adam(model.parameters()), 1)
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node=2',
        'action_retrieval.py',
        '--data-root',
        tmp_path / 'data',
        '--pretrained',
        tmp_path / 'c.pth.tar',
        '--device',
        'cpu',
        '--results',
        tmp_path / 'r.json',
    ]
    done = subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    )
    assert done.stdout.count('test clips query') == 1
    assert done.stderr.count('evaluation runs in one process; the others leave') == 1
    assert len(json.loads((tmp_path / 'r.json').read_text())['predictions']) == 3


@pytest.fixture
def save(tmp_path):
    """save(*subsets): features of these subsets, as they are after writing them to f.npz."""

    def write(*subsets):
        values = {
            subset: Features(
                torch.full((5, 4), float(number)),
                torch.arange(5),
                torch.randn(2, 4),
                torch.arange(2),
            )
            for number, subset in enumerate(subsets)
        }
        feature_files.save(tmp_path / 'f.npz', values, 'ntu60', 'cross_view', ORIGIN)
        return values

    return write


@pytest.mark.parametrize('subsets', [[BONE], [JOINT, BONE, MOTION], SUBSETS], ids=len)
def test_one_file_holds_all_subsets(save, tmp_path, subsets):
    values = save(*subsets)
    loaded = feature_files.load(tmp_path / 'f.npz', subsets)
    for subset in subsets:
        assert all(one.equal(two) for one, two in zip(values[subset], loaded[subset], strict=True))
    assert feature_files.read_source(tmp_path / 'f.npz') == ('ntu60', 'cross_view', subsets, ORIGIN)


@pytest.mark.parametrize(
    ('subsets', 'wanted', 'message'),
    [
        ([JOINT, BONE], [MOTION], 'holds joint, bone, not motion'),
        ([BONE], [JOINT], 'holds bone, not joint'),
        ([BONE], [BONE, JOINT], 'holds bone, not joint'),
    ],
)
def test_subsets_that_a_file_does_not_hold(save, tmp_path, subsets, wanted, message):
    save(*subsets)
    with pytest.raises(InputError, match=message):
        feature_files.load(tmp_path / 'f.npz', wanted)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'train': None}, 'the array train is missing'),
        ({'val_labels': None}, 'not an .npz file with features'),
        (
            {'val_labels': np.arange(3)},
            'the shapes of train, train_labels, val, val_labels disagree',
        ),
        ({'val': np.ones((2, 5))}, 'the shapes of train, train_labels, val, val_labels disagree'),
    ],
)
def test_damaged_feature_files(tmp_path, change, message):
    arrays = {
        'train': np.ones((5, 4)),
        'train_labels': np.arange(5),
        'val': np.ones((2, 4)),
        'val_labels': [0, 1],
    }
    np.savez(
        tmp_path / 'f.npz',
        **{name: array for name, array in (arrays | change).items() if array is not None},
    )
    with pytest.raises(InputError, match=message):
        feature_files.load(tmp_path / 'f.npz', [JOINT])


def test_a_file_from_elsewhere_with_the_four_arrays_is_used(tmp_path):
    np.savez(
        tmp_path / 'f.npz',
        train=np.ones((5, 4)),
        train_labels=np.arange(5),
        val=np.ones((2, 4)),
        val_labels=[0, 1],
    )
    assert feature_files.read_source(tmp_path / 'f.npz') == feature_files.Source()
    (loaded,) = feature_files.load(tmp_path / 'f.npz', [BONE]).values()
    assert (loaded.train.dtype, loaded.val_labels.dtype) == (torch.float32, torch.int64)
    with pytest.raises(InputError, match='holds one set of features'):
        feature_files.load(tmp_path / 'f.npz', [JOINT, BONE])
