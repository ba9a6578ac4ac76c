"""Extraction of several subsets at once, the file they are saved in, and evaluation under a
launcher.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import action_recognition
import action_retrieval
from feeder.feeders import downstream_batches
from feeder.modalities import subsets
from model.umurl import UmURL
from tools import results as results_module
from tools.common.cli import InputError
from tools.evaluation import feature_files, features, flops
from tools.evaluation.feature_files import Features
from tools.evaluation.late_fusion import FusionRow, fusion_rows, main_row, needed_subsets
from tools.results import Origin

ROOT = Path(__file__).resolve().parents[3]
JOINT, BONE, MOTION = ('joint',), ('bone',), ('motion',)
ALL = ['joint', 'bone', 'motion']
SUBSETS = subsets()
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
        whole = model.backbone.encode(*next(downstream_batches(clips, len(clips), subset))[1])
        torch.testing.assert_close(values, whole.detach(), rtol=1e-5, atol=1e-5)


def test_each_modality_is_embedded_once_a_batch(model, clips):
    calls = []
    for name, embedding in model.backbone.embeddings().items():
        embedding.register_forward_hook(lambda *_, name=name: calls.append(name))
    features.extract_subsets(model.backbone, clips, [JOINT, ('joint', 'motion'), MOTION], 6)
    assert calls == ['joint', 'motion'] * 2


def test_the_cost_of_each_subset(model):
    """One fused pass costs less than the passes of its modalities."""
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


def test_under_torchrun_one_process_evaluates(tmp_path, setting):
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node=2',
        'action_retrieval.py',
        *setting,
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
    assert len(json.loads((tmp_path / 'r.json').read_text())['predictions']) == 12


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


@pytest.fixture
def retrieve(tmp_path, capsys):
    """retrieve(**arrays): k-NN retrieval with a file of 6 training and 3 test clips, of three
    classes, in which these arrays are others; (what is printed, the results).
    """

    def run(dataset='ntu60', **arrays):
        centres = 9 * np.eye(4)[:3]
        train, val = centres.repeat(2, 0) + 0.1 * np.arange(24).reshape(6, 4), centres
        labels = {'train_labels': np.arange(6) // 2, 'val_labels': np.arange(3)}
        np.savez(tmp_path / 'f.npz', **({'train': train, 'val': val} | labels | arrays))
        flags = ['--load-features', tmp_path / 'f.npz', '--finetune-dataset', dataset]
        flags += ['--data-root', tmp_path, '--results', tmp_path / 'r.json', '--device', 'cpu']
        action_retrieval.main(list(map(str, flags)))
        return capsys.readouterr(), json.loads((tmp_path / 'r.json').read_text())

    return run


def names(*labels):
    return [f'S001C001P001R001A{label + 1:03d}.skeleton' for label in labels]


def describe(**about):
    known = {'dataset': 'ntu60', 'protocol': 'cross_subject', 'subsets': [['joint']]}
    return json.dumps(known | about)


@pytest.mark.parametrize(
    ('arrays', 'note'),
    [
        ({'train_labels': np.arange(6)[:, None] // 2}, None),
        ({'train_labels': (np.arange(6) // 2).astype(np.float64)}, None),
        ({'val_names': np.array(names(0, 1, 2), 'S')}, None),
        ({'about': 'features of my encoder'}, 'its array about is not of --save-features'),
        ({'about': '[1, 2]'}, 'its array about is not of --save-features'),
        ({'about': json.dumps({'dataset': 'NTU', 'epochs': 3})}, 'its array about is not'),
        ({'about': describe(dataset=['ntu60'])}, 'its array about is not of --save-features'),
        ({'about': describe(subsets=5)}, 'its array about is not of --save-features'),
        ({'about': np.array({'dataset': 'ntu60'}, object)}, 'its array about is not'),
        (
            {'val': 9 * np.eye(4)[:3] * [[1], [1], [0]]},
            'f.npz: the features of 1 test clip are zeros',
        ),
        ({'val': np.ones((3, 4))}, 'f.npz: all test clips have the same features'),
        ({'train': np.zeros((6, 4))}, 'f.npz: the features of 6 training clips are zeros'),
        ({'train': np.full((6, 4), 1e-30)}, 'f.npz: the features of 6 training clips are zeros'),
    ],
)
def test_features_that_are_scored(retrieve, arrays, note):
    said, results = retrieve(**arrays)
    notes = [line for line in said.err.splitlines() if 'cosine above' not in line]
    if note is None:
        assert results['accuracy'] == 100
        assert notes == []
    else:
        assert len(notes) == 1
        assert note in notes[0]
    if 'val_names' in arrays:
        assert results['val_names'] == names(0, 1, 2)


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'train_labels': np.eye(6)}, 'f.npz, train_labels: labels must be .N,. whole numbers'),
        (
            {'val_labels': ['sit', 'sit', 'run']},
            'f.npz, val_labels: labels must be .* found .3,. <U3',
        ),
        ({'train_labels': np.full(6, 0.7)}, 'label 0.7 of clip 0 is not a whole number'),
        ({'val_labels': [0, np.nan, 1]}, 'label nan of clip 1 is not a whole number'),
        ({'val_labels': np.array(2)}, 'labels must be'),
        ({'train': np.full((6, 4), 1e30)}, 'not finite, or their norm is not in float32'),
        ({'val': np.full((3, 4), 1e300)}, 'not finite, or their norm is not in float32'),
        ({'val': np.full((3, 4), 'x')}, 'the array val is <U1, not numbers'),
        ({'val': np.ones((3, 4), complex)}, 'the array val is complex128, not numbers'),
        ({'val': np.array([[None] * 4] * 3)}, 'the array val cannot be read'),
        ({'val_names': names(0, 1)}, 'val_names and val_labels are not of as many clips'),
        (
            {'val_names': names(0, 2, 1)},
            'the clip S001C001P001R001A003.skeleton has label 1, but its name says 2',
        ),
        (
            {'train_names': np.array(names(1, 0, 1, 1, 2, 2), 'S')},
            'the clip S001C001P001R001A002.skeleton has label 0, but its name says 1',
        ),
    ],
)
def test_features_that_are_refused(retrieve, tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as error:
        retrieve(**arrays)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'r.json').exists()


def test_recordings_of_ones_own_may_have_names_of_ntu_and_other_labels(retrieve):
    said, results = retrieve('custom', val_names=names(5, 5, 5), train_names=names(*range(6)))
    assert results['accuracy'] == 100
    assert said.err == ''


def test_test_clips_that_are_training_clips_are_a_note(retrieve):
    train = np.eye(4)[[0, 0, 1, 1, 2, 3]]
    said, results = retrieve(train=train, val=5 * train[[0, 2, 0]])
    assert (results['copies'], results['copies_with_own_label']) == (3, 2)
    assert said.err.startswith('note: 3 test clips have a training clip at a cosine above 1 - 1e-6')
    assert ': 2 with the same label, 1 with another' in said.err
    said, results = retrieve(train=train, val=train[[0, 2, 5]] + 0.01 * np.eye(4)[[3, 3, 0]])
    assert results['copies'] == 0
    assert said.err == ''


def test_labels_of_arrays_that_contradict_the_names(setting, xsub, mistake):
    """Of NTU RGB+D, where the names tell the labels."""
    (listed, labels) = pickle.loads((xsub / 'val_label.pkl').read_bytes())
    (xsub / 'val_label.pkl').write_bytes(pickle.dumps((listed, [*labels[1:], labels[0]])))
    for main in (action_retrieval.main, action_recognition.main):
        said = mistake(main, setting)
        assert f'the clip {listed[0]} has label {labels[1]}, but its name says {labels[0]}' in said


def test_results_are_written_before_what_is_optional(retrieve, tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, 'print_origin', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        retrieve()
    assert json.loads((tmp_path / 'r.json').read_text())['accuracy'] == 100


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
