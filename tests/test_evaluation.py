"""What the two evaluation scripts share, and retrieval, run as a user runs them."""

import csv
import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import action_recognition
import action_retrieval
from data_gen import manifest
from feeder.dataset import load_split
from tools import checkpoint
from tools.evaluation.feature_files import Features
from tools.evaluation.features import extract_subsets
from tools.evaluation.knn import knn_search
from tools.results import data_sha256

SCRIPTS = pytest.mark.parametrize('script', [action_recognition, action_retrieval])


def results(script, setting, tmp_path, *flags):
    script.main([*setting, '--results', str(tmp_path / 'results.json'), *map(str, flags)])
    return json.loads((tmp_path / 'results.json').read_text())


def test_retrieval_scores_by_hand():
    """Clips on a quarter circle, all queries at its beginning: the n-th clip is the n-th neighbour
    of each.
    """
    angles = torch.arange(12) / 8
    train_labels = torch.tensor([4, 0, 1, 1, 1, 2, 1, 1, 1, 1, 3, 1])
    labels = torch.tensor([0, 2, 3, 4, 9])  # found at ranks 2, 6, 11, 1, and nowhere
    features = Features(
        torch.stack((angles.cos(), angles.sin()), 1),
        train_labels,
        torch.tensor([1.0, 0]).repeat(5, 1),
        labels,
    )
    made = action_retrieval.evaluate([features], 1, 10, 2)
    assert made['predictions'].tolist() == [4] * 5
    assert made['accuracy'] == pytest.approx(20)
    assert [made[f'recall_at_{first}'] for first in (1, 5, 10)] == [25, 50, 75]
    assert made['mean_average_precision'] == pytest.approx(
        25 * (1 / 2 + 1 / 6 + 1 / 11 + 1), rel=1e-5
    )
    assert made['without_training_clip'] == 1
    assert made['class_accuracy'] == [0, None, 0, 0, 100, None, None, None, None, 0]


def test_no_class_in_common(tmp_path, capsys):
    np.savez(
        tmp_path / 'f.npz',
        train=np.eye(3),
        train_labels=[0, 1, 2],
        val=np.eye(3)[:2],
        val_labels=[3, 4],
    )
    made = results(action_retrieval, [], tmp_path, '--load-features', tmp_path / 'f.npz')
    assert (made['accuracy'], made['mean_average_precision'], made['recall_at_10']) == (
        0,
        None,
        None,
    )
    assert '2 test clips have a class without training clips' in capsys.readouterr().out


def test_retrieval_end_to_end(setting, tmp_path, capsys):
    made = results(
        action_retrieval, setting, tmp_path, '--knn-neighbours', 3, '--lr', 0.03, '--seed', 5
    )
    assert made['accuracy'] > 60
    assert made['accuracy'] == pytest.approx(
        100 * np.mean(np.equal(made['predictions'], made['labels']))
    )
    assert made['mean_average_precision'] > 60
    assert (
        made['accuracy_interval'][0] < made['accuracy'] < made['accuracy_interval'][1]
        or made['accuracy'] == 100
    )
    assert (len(made['data_sha256']), made['pretrained_on'], 'table' in made) == (64, None, False)
    assert made['config'] == {
        'task': 'k-NN retrieval',
        'dataset': 'ntu60',
        'protocol': 'cross_subject',
        'ensemble': False,
        'modalities': ['joint', 'bone', 'motion'],
        'all_modalities': False,
        'knn_neighbours': 3,
        'amp': 'off',
        'tf32': False,
        'checkpoint_sha256': made['checkpoint_sha256'],
        'data_sha256': made['data_sha256'],
    }
    out = capsys.readouterr().out
    assert (
        f'\naccuracy: {made["accuracy"]:.2f} % (95 % interval {made["accuracy_interval"][0]:.2f} '
        'to ' in out
    )
    assert (
        f'mAP: {made["mean_average_precision"]:.2f} %  recall@1: {made["recall_at_1"]:.2f} %' in out
    )


def test_every_subset_from_one_pass(setting, tmp_path, capsys):
    made = results(action_retrieval, setting, tmp_path, '--all-modalities')
    table = {row['modalities']: row for row in made['table']}
    assert list(table) == [
        'joint',
        'bone',
        'motion',
        'joint+bone',
        'joint+motion',
        'bone+motion',
        'joint+bone+motion',
        '3s',
    ]
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[-9:-1]}
    for name, row in table.items():
        assert lines[name][1] == f'{row["accuracy"]:.2f}'
        assert lines[name][6] == f'{row["mean_average_precision"]:.2f}'
        assert lines[name][10] == f'{row["gflops"]:.3g}'
        assert (' '.join(lines[name][11:]) == 'combination not trained on') == (
            name.count('+') == 1
        )
        if name != '3s':
            alone = results(action_retrieval, setting, tmp_path, '--modalities', *name.split('+'))
            assert all(alone[key] == value for key, value in row.items())
    assert made['mean_average_precision'] == table['joint+bone+motion']['mean_average_precision']


def test_the_ensemble_adds_cosines(setting, tmp_path):
    """The same as one search among features that were scaled to length 1 and put side by side."""
    made = results(
        action_retrieval, setting, tmp_path, '--ensemble', '--save-features', tmp_path / 'f.npz'
    )
    saved = np.load(tmp_path / 'f.npz')
    train, val = (
        torch.cat(
            [
                normalize(torch.from_numpy(saved[f'{split}_{modality}']))
                for modality in ('joint', 'bone', 'motion')
            ],
            1,
        )
        for split in ('train', 'val')
    )
    neighbours, _ = knn_search([normalize(train)], [normalize(val)], 1)
    assert made['predictions'] == saved['train_labels'][neighbours[:, 0]].tolist()
    assert [row['modalities'] for row in made['table']] == ['joint', 'bone', 'motion', '3s']
    assert made['mean_average_precision'] == made['table'][3]['mean_average_precision']
    again = results(
        action_retrieval, [], tmp_path, '--ensemble', '--load-features', tmp_path / 'f.npz'
    )
    assert again['table'] == made['table']
    assert again['checkpoint_sha256'] == made['checkpoint_sha256']


def test_batch_and_block_change_nothing(setting, tmp_path):
    made = [
        results(action_retrieval, setting, tmp_path, *flags)
        for flags in ([], ['-b', 7], ['--block', 1])
    ]
    assert made[0]['predictions'] == made[1]['predictions'] == made[2]['predictions']


def test_results_name_the_batch_size_that_mixed_precision_depends_on(setting, tmp_path):
    made = results(action_retrieval, setting, tmp_path, '--amp', 'bf16', '--extract-batch', '7')
    assert made['config']['extract_batch'] == 7


def test_per_class_file_in_a_new_folder(setting, tmp_path):
    made = results(action_retrieval, setting, tmp_path, '--per-class', tmp_path / 'new/classes.csv')
    with open(tmp_path / 'new/classes.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['clips'] for row in rows] == ['4'] * 3 + ['0'] * 57
    shown = [f'{accuracy:.2f}' for accuracy in made['class_accuracy'][:3]]
    assert [row['accuracy'] for row in rows[:3]] == shown


def summary_of(clips):
    num_frames = clips.num_frames.tolist()
    digests = manifest.clip_digests(clips.frames.numpy(), num_frames)
    return manifest.split_summary(clips.names, clips.labels.tolist(), num_frames, digests)


@SCRIPTS
def test_results_know_their_data_and_what_was_pretrained(script, setting, tmp_path, capsys):
    folder, path = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', tmp_path / 'checkpoint.pth.tar'
    manifest.write(
        folder, parts={split: summary_of(load_split(folder, split)) for split in ('train', 'val')}
    )
    about = {
        'objective': 'umurl',
        'modalities': ['joint', 'bone'],
        'dataset': 'ntu60',
        'protocol': 'cross_subject',
    }
    torch.save(torch.load(path) | {'config': about}, path)
    made = results(script, setting, tmp_path)
    assert made['pretrained_on'] == about
    assert made['data_sha256'] == data_sha256(folder)
    assert (
        f'note: {path} was pre-trained on joint bone only; its embedding of motion'
        in capsys.readouterr().err
    )
    results(script, setting, tmp_path, '--modalities', 'bone')
    shown = capsys.readouterr()
    assert 'pre-trained on joint bone only' not in shown.err
    assert 'pre-trained on ntu60 cross_subject, joint+bone, objective umurl' in shown.out


@pytest.fixture
def custom(setting, tmp_path, padded_arrays):
    """The checkpoint says that it was pre-trained on `custom`, which is prepared beside NTU-60."""
    padded_arrays(tmp_path / 'data/custom/split', train=30, val=12, seed=1)
    config = {
        'objective': 'umurl',
        'modalities': ['joint', 'bone', 'motion'],
        'dataset': 'custom',
        'protocol': 'own_split',
    }
    path = tmp_path / 'checkpoint.pth.tar'
    torch.save(torch.load(path) | {'config': config}, path)
    return path


@SCRIPTS
def test_an_encoder_is_evaluated_on_what_it_was_pretrained_on(
    script, custom, setting, tmp_path, capsys
):
    for flags, data in (
        ([], ['custom', 'own_split']),
        (['--finetune-dataset', 'ntu60'], ['ntu60', 'cross_subject']),
    ):
        made = results(script, setting, tmp_path, *flags)
        assert [made['config']['dataset'], made['config']['protocol']] == data
        transfer = 'transfer: pre-trained on custom own_split, evaluated on ntu60 cross_subject\n'
        assert (transfer in capsys.readouterr().out) == (data[0] == 'ntu60')


@SCRIPTS
def test_the_newest_checkpoint_of_a_folder_is_taken(script, custom, setting, tmp_path, capsys):
    (tmp_path / 'run').mkdir()
    for epoch, content in ((0, b''), (50, custom.read_bytes()), (9, b'')):
        checkpoint.path_of(tmp_path / 'run', epoch).write_bytes(content)
    made = results(script, [*setting, '--pretrained', str(tmp_path / 'run')], tmp_path)
    assert made['config']['dataset'] == 'custom'
    assert (
        f'/run/checkpoint_0050.pth.tar is the newest checkpoint in {tmp_path}/run\n'
        in capsys.readouterr().out
    )


def test_the_protocols_that_are_prepared_are_named(setting, mistake):
    line = mistake(action_retrieval.main, [*setting, '--protocol', 'cross_view'])
    assert 'NTU-RGB-D-60-AGCN/xview is not there' in line
    assert line.endswith('prepared: --protocol cross_subject')


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--modalities', 'joint'], 'holds bone, not joint'),
        (
            ['--protocol', 'cross_view'],
            'has features of the protocol cross_subject, not cross_view',
        ),
        (['--finetune-dataset', 'ntu120'], 'has features of the data set ntu60, not ntu120'),
    ],
)
def test_features_of_something_else_are_a_mistake(setting, tmp_path, mistake, flags, message):
    file = tmp_path / 'f.npz'
    action_retrieval.main([*setting, '--modalities', 'bone', '--save-features', str(file)])
    assert message in mistake(action_retrieval.main, ['--load-features', file, *flags])


def test_saved_features_of_several_subsets_serve_each_of_them(setting, tmp_path, mistake):
    file = tmp_path / 'f.npz'
    whole = results(action_retrieval, setting, tmp_path, '--ensemble', '--save-features', file)
    bone = results(action_retrieval, [], tmp_path, '--load-features', file, '--modalities', 'bone')
    assert bone['accuracy'] == whole['table'][1]['accuracy']
    assert 'holds joint, bone, motion, not joint+bone' in mistake(
        action_retrieval.main, ['--load-features', file]
    )


def test_a_finished_result_is_not_computed_again(setting, tmp_path, capsys):
    first = results(action_retrieval, setting, tmp_path)
    capsys.readouterr()
    assert results(action_retrieval, setting, tmp_path, '--skip-finished') == first
    assert capsys.readouterr().out == f'{tmp_path / "results.json"}: finished already\n'
    again = results(action_retrieval, setting, tmp_path, '--skip-finished', '--knn-neighbours', 2)
    assert again['config']['knn_neighbours'] == 2


@SCRIPTS
def test_kept_features_give_the_same_result(script, setting, tmp_path):
    first = results(script, setting, tmp_path, '--save-features', tmp_path / 'new/features.npz')
    kept = dict(np.load(tmp_path / 'new/features.npz'))
    about = json.loads(str(kept.pop('about')))
    assert about['dataset'] == 'ntu60'
    assert {name: (array.shape, str(array.dtype)) for name, array in kept.items()} == {
        'train': ((30, 16), 'float32'),
        'train_labels': ((30,), 'int64'),
        'train_names': ((30,), '<U29'),
        'val': ((12, 16), 'float32'),
        'val_labels': ((12,), 'int64'),
        'val_names': ((12,), '<U29'),
    }
    again = results(
        script, ['--device', 'cpu'], tmp_path, '--load-features', tmp_path / 'new/features.npz'
    )
    assert again['predictions'] == first['predictions']
    assert again['val_names'] == first['val_names'] == kept['val_names'].tolist()
    assert first['val_names'][:2] == [
        'S001C001P001R001A001.skeleton',
        'S001C001P002R001A002.skeleton',
    ]
    assert again['performers'] == first['performers'] == list(range(1, 13))
    assert again['checkpoint_sha256'] == first['checkpoint_sha256'] is not None


def test_modalities_choose_the_path(setting, tmp_path):
    made = {}
    for modalities in (['joint'], ['bone'], ['joint', 'bone'], ['joint', 'bone', 'motion']):
        action_retrieval.main(
            [*setting, '--modalities', *modalities, '--save-features', str(tmp_path / 'f.npz')]
        )
        made['+'.join(modalities)] = np.load(tmp_path / 'f.npz')['val']
    assert len({array.tobytes() for array in made.values()}) == 4


def test_recorded_features(recorded, reference, recorded_dataset):
    """The official features, from the checkpoint reader and the extractor that the scripts use."""
    backbone = checkpoint.load_model(reference / 'checkpoint_0000.pth.tar')[0].backbone
    for key, modalities in [
        ('features', ('joint', 'bone', 'motion')),
        ('features_joint', ('joint',)),
        ('features_bone', ('bone',)),
        ('features_motion', ('motion',)),
    ]:
        (made,) = extract_subsets(backbone, recorded_dataset, [modalities], 5).values()
        theirs = torch.from_numpy(recorded('downstream')[key])
        assert float((made - theirs).norm() / theirs.norm()) < 1e-4


@SCRIPTS
@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--pretrained', '/no/such.pth.tar'], '/no/such.pth.tar: no such checkpoint'),
        (
            ['--finetune-dataset', 'ntu120', '--protocol', 'cross_view'],
            'ntu120 has no protocol cross_view',
        ),
        (['--finetune-dataset', 'ntu120'], 'NTU-RGB-D-120-AGCN'),
        (['--modalities', 'depth'], '--modalities'),
        (['--load-features', '/no/such.npz'], '/no/such.npz'),
        (
            ['--ensemble', '--modalities', 'bone'],
            '--ensemble takes two or more modalities, not bone alone',
        ),
        (
            ['--all-modalities', '--modalities', 'bone'],
            '--all-modalities takes two or more modalities, not bone alone',
        ),
        (['--all-modalities', '--ensemble'], 'not allowed with argument'),
        (['--skip-finished'], '--skip-finished needs --results'),
        (['--results', __file__ + '/r.json'], __file__),
        (['--save-features', '/tmp'], '/tmp is a folder: name a file in it'),
    ],
)
def test_a_mistake_is_one_line(script, setting, mistake, flags, message):
    assert message in mistake(script.main, [*setting, *flags])


@SCRIPTS
def test_no_checkpoint_is_a_mistake(script, tmp_path, mistake):
    for flags in ([], ['--results', str(tmp_path / 'r.json')]):
        assert '--pretrained CHECKPOINT is missing' in mistake(script.main, flags)


def test_more_neighbours_than_clips_is_a_mistake(setting, mistake):
    assert 'there are 30 training clips' in mistake(
        action_retrieval.main, [*setting, '--knn-neighbours', 31]
    )


@SCRIPTS
def test_a_label_beyond_the_data_set_is_a_mistake(script, tmp_path, mistake):
    np.savez(
        tmp_path / 'f.npz',
        train=np.ones((2, 4)),
        train_labels=[0, 60],
        val=np.ones((1, 4)),
        val_labels=[0],
    )
    assert 'ntu60 has 60 classes' in mistake(script.main, ['--load-features', tmp_path / 'f.npz'])


@SCRIPTS
@pytest.mark.parametrize('damage', ['missing label file', 'one label less', 'not finite'])
def test_damaged_arrays_are_a_mistake(script, setting, tmp_path, mistake, damage):
    folder = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'
    if damage == 'missing label file':
        (folder / 'val_label.pkl').unlink()
    elif damage == 'one label less':
        np.save(folder / 'val_num_frame.npy', np.load(folder / 'val_num_frame.npy')[:-1])
    else:
        data = np.load(folder / 'val_data_joint.npy')
        data[3, 0, 2, 7, 0] = np.nan
        np.save(folder / 'val_data_joint.npy', data)
    line = mistake(script.main, setting)
    assert {
        'missing label file': 'val_label.pkl',
        'one label less': '11 frame counts',
        'not finite': 'clip 3 (S001C001P004',
    }[damage] in line


def test_kept_features_know_their_modalities(setting, tmp_path, capsys):
    action_retrieval.main(
        [*setting, '--modalities', 'bone', '--save-features', str(tmp_path / 'f.npz')]
    )
    made = results(action_retrieval, setting, tmp_path, '--load-features', tmp_path / 'f.npz')
    assert made['config']['modalities'] == ['bone']
    assert '--pretrained has no effect' in capsys.readouterr().err


@SCRIPTS
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'val': np.full((2, 4), np.nan)}, 'not finite'),
        ({'val': np.ones((0, 4)), 'val_labels': []}, '0 test clips'),
    ],
)
def test_features_that_no_score_can_come_from(script, tmp_path, mistake, change, message):
    whole = {
        'train': np.ones((3, 4)),
        'train_labels': [0, 1, 2],
        'val': np.ones((2, 4)),
        'val_labels': [0, 1],
    }
    np.savez(tmp_path / 'f.npz', **whole | change)
    assert message in mistake(script.main, ['--load-features', tmp_path / 'f.npz'])


def test_arrays_of_one_body_are_a_mistake(setting, tmp_path, mistake):
    file = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub/train_data_joint.npy'
    np.save(file, np.load(file)[..., :1])
    assert '75 numbers per frame' in mistake(action_retrieval.main, setting)
