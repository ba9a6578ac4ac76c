"""action_recognition.py as a user runs it: the probe on stored features and on a checkpoint, the
tables, the flags.
"""

import copy
import csv
import json

import numpy as np
import pytest
import torch

import action_recognition
from feeder.modalities import subsets
from tools.common.files import file_sha256
from tools.evaluation import feature_files
from tools.evaluation.feature_files import Features
from tools.results import Origin, data_sha256

CONFIG = {
    'objective': 'umurl',
    'modalities': ['joint', 'bone', 'motion'],
    'dataset': 'ntu60',
    'protocol': 'cross_subject',
    'hidden_size': 8,
    'seed': 0,
    'epochs': 1,
    'batch_size': 8,
}

SCORES = (
    'lr',
    'accuracy',
    'accuracy_interval',
    'top5_accuracy',
    'mean_class_accuracy',
    'class_accuracy',
    'best_accuracy',
    'best_epoch',
)


def random_features(seed=0, clips=50, width=6, classes=4):
    """Features of classes that overlap, so no probe is right everywhere."""
    rng = np.random.default_rng(seed)
    labels = [np.random.default_rng(1).integers(0, classes, clips), np.arange(clips) % classes]
    centres = rng.normal(size=(classes, width))
    train, val = (
        torch.from_numpy(centres[part] + rng.normal(size=(clips, width))).float() for part in labels
    )
    return Features(train, torch.from_numpy(labels[0]), val, torch.from_numpy(labels[1]))


@pytest.fixture
def stored(tmp_path):
    """Features in F.npz (all seven subsets) and F_joint.npz and so on (one each); the flags that
    use them.
    """
    features = {subset: random_features(number) for number, subset in enumerate(subsets())}
    feature_files.save(tmp_path / 'F.npz', features, 'ntu60', 'cross_subject', Origin())
    for subset, values in features.items():
        feature_files.save(
            tmp_path / f'F_{"+".join(subset)}.npz',
            {subset: values},
            'ntu60',
            'cross_subject',
            Origin(),
        )
    return ['--device', 'cpu', '--batch-size', '16', '--epochs', '12', '--load-features']


def results(folder, *argv):
    action_recognition.main([*map(str, argv), '--results', str(folder / 'results.json')])
    return json.loads((folder / 'results.json').read_text())


def test_the_tables_rows_are_the_single_runs(stored, tmp_path, capsys):
    made = results(tmp_path, *stored, tmp_path / 'F.npz', '--all-modalities', '--lr', 0.1, 0.01)
    out = capsys.readouterr().out
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
    for name in list(table)[:-1]:
        single = results(tmp_path, *stored, tmp_path / f'F_{name}.npz', '--lr', 0.1, 0.01)
        for number, rows in enumerate(
            (table, {row['modalities']: row for row in made['by_lr'][1]['table']})
        ):
            assert {key: rows[name][key] for key in SCORES} == {
                key: single['by_lr'][number][key] for key in SCORES
            }
        assert f'{name:20}{single["accuracy"]:10.2f}' in out
    assert made['accuracy'] == table['joint+bone+motion']['accuracy']
    assert made['predictions'] == single['predictions']
    assert made['lr'] == 0.1


def test_ensemble(stored, tmp_path, capsys):
    made = results(tmp_path, *stored, tmp_path / 'F.npz', '--ensemble', '--lr', 0.1)
    assert [row['modalities'] for row in made['table']] == ['joint', 'bone', 'motion', '3s']
    assert (made['modalities'], made['accuracy']) == ('3s', made['table'][-1]['accuracy'])
    assert made['accuracy'] not in {row['accuracy'] for row in made['table'][:-1]}
    assert (
        'joint+bone+motion, late fusion (3s): 50 training clips, 50 test clips\n'
        in capsys.readouterr().out
    )
    two = results(
        tmp_path, *stored, tmp_path / 'F.npz', '--ensemble', '--modalities', 'motion', 'joint'
    )
    assert [row['modalities'] for row in two['table']] == ['joint', 'motion', '2s']


def test_several_rates_each_have_a_result(stored, tmp_path, capsys):
    made = results(tmp_path, *stored, tmp_path / 'F_joint.npz', '--lr', 0.1, 0.001)
    out = capsys.readouterr().out
    assert [row['lr'] for row in made['by_lr']] == [0.1, 0.001]
    assert made['by_lr'][0]['accuracy'] == made['accuracy'] != made['by_lr'][1]['accuracy']
    assert f'{"lr 0.001":20}{made["by_lr"][1]["accuracy"]:10.2f}' in out
    assert 'Choosing a learning rate by these numbers means choosing on the test split' in out
    for row in made['by_lr']:
        alone = results(tmp_path, *stored, tmp_path / 'F_joint.npz', '--lr', row['lr'])
        assert {key: alone[key] for key in SCORES} == {key: row[key] for key in SCORES}
        assert 'modalities ' not in capsys.readouterr().out  # a single learning rate has no table


@pytest.fixture
def setting(setting, tmp_path, save_untrained):
    """The same, with a checkpoint that says what it was trained on."""
    save_untrained(tmp_path / 'checkpoint.pth.tar', config=CONFIG)
    return setting


def test_recognition_end_to_end(setting, tmp_path, capsys):
    made = results(
        tmp_path,
        *setting,
        '--epochs',
        42,
        '--batch-size',
        8,
        '--lr',
        0.3,
        '--per-class',
        tmp_path / 'new/c.csv',
    )
    out, (low, high) = capsys.readouterr().out, made['accuracy_interval']
    assert (
        f'last epoch:  {made["accuracy"]:.2f} % (95 % interval {low:.2f} to {high:.2f} by clip, '
        in out
    )
    assert 'calibration, last epoch:     error ' in out
    assert f'best seen:   {made["best_accuracy"]:.2f} % (epoch {made["best_epoch"]}; ' in out
    assert made['accuracy'] > 60  # three classes, each with a pose of its own
    assert made['best_accuracy'] >= made['accuracy'] >= low
    assert made['accuracy'] == pytest.approx(
        100 * np.mean(np.equal(made['predictions'], made['labels']))
    )
    assert made['config'] == {
        'task': 'linear probe',
        'dataset': 'ntu60',
        'protocol': 'cross_subject',
        'ensemble': False,
        'all_modalities': False,
        'modalities': ['joint', 'bone', 'motion'],
        'lr': [0.3],
        'epochs': 42,
        'batch_size': 8,
        'schedule': [120, 140],
        'cos': False,
        'momentum': 0.9,
        'weight_decay': 0.0,
        'train_crop': [1, 1],
        'test_crop': 1,
        'recipe': 'probe',
        'overrides': {'lr': [0.3], 'batch_size': 8, 'epochs': 42},
        'amp': 'off',
        'tf32': False,
        'seed': 0,
        'draws_version': 2,
        'checkpoint_sha256': file_sha256(tmp_path / 'checkpoint.pth.tar'),
        'data_sha256': data_sha256(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'),
    }
    assert f', last training loss {made["training_loss"]:.4f}\n' in out
    rows = list(csv.DictReader((tmp_path / 'new/c.csv').open()))
    assert sum(int(row['correct']) for row in rows) == round(made['accuracy'] * 12 / 100)


def test_transfer_to_another_data_set(setting, tmp_path, padded_arrays, capsys):
    """A checkpoint of one data set on the custom one, whose number of classes follows from the
    labels.
    """
    padded_arrays(tmp_path / 'data/custom/split', train=30, val=12)
    made = results(
        tmp_path,
        *setting,
        '--finetune-dataset',
        'custom',
        '--lr',
        0.3,
        '--batch-size',
        8,
        '--save-features',
        tmp_path / 'F.npz',
    )
    out = capsys.readouterr().out
    assert (
        'pre-trained on ntu60 cross_subject, joint+bone+motion, objective umurl, recipe published\n'
        in out
    )
    assert 'transfer: pre-trained on ntu60 cross_subject, evaluated on custom own_split\n' in out
    assert made['pretrained_on'] == CONFIG
    assert len(made['class_accuracy']) == 3
    assert made['accuracy'] > 60
    assert (
        results(tmp_path, '--load-features', tmp_path / 'F.npz', '--device', 'cpu')['pretrained_on']
        == CONFIG
    )


def test_a_checkpoint_without_a_config(setting, tmp_path, capsys):
    saved = torch.load(tmp_path / 'checkpoint.pth.tar', weights_only=True)
    del saved['config']
    torch.save(saved, tmp_path / 'checkpoint.pth.tar')
    assert results(tmp_path, *setting, '--epochs', 1)['pretrained_on'] is None
    assert 'pre-trained on' not in capsys.readouterr().out


@pytest.mark.parametrize('task', [[], ['--finetune']])
def test_only_the_first_process_works(setting, tmp_path, monkeypatch, capsys, task):
    for name, value in (('RANK', '1'), ('LOCAL_RANK', '1'), ('WORLD_SIZE', '2')):
        monkeypatch.setenv(name, value)
    action_recognition.main(
        [*map(str, setting), *task, '--results', str(tmp_path / 'results.json')]
    )
    assert not capsys.readouterr().out
    assert not (tmp_path / 'results.json').exists()


def test_skip_finished(setting, tmp_path, monkeypatch, capsys):
    first = results(tmp_path, *setting, '--epochs', 1)
    capsys.readouterr()
    assert (
        results(tmp_path, *setting, '--epochs', 1, '--skip-finished', '--extract-batch', 3) == first
    )
    assert capsys.readouterr().out == f'{tmp_path / "results.json"}: finished already\n'
    for changes in (
        ['--epochs', 2],
        ['--epochs', 1, '--seed', 1],
        ['--epochs', 1, '--modalities', 'joint'],
    ):
        other = results(tmp_path, *setting, *changes, '--skip-finished')
        assert other['config'] != first['config']
    padded = np.load(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub/val_num_frame.npy')
    np.save(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub/val_num_frame.npy', np.maximum(padded - 1, 1))
    assert results(tmp_path, *setting, *changes, '--skip-finished')['config'] != other['config']


def test_results_of_earlier_draws_are_not_taken_for_finished(setting, tmp_path):
    first = results(tmp_path, *setting, '--epochs', 1)
    earlier = copy.deepcopy(first)
    del earlier['config']['draws_version']
    (tmp_path / 'results.json').write_text(json.dumps(earlier))
    again = results(tmp_path, *setting, '--epochs', 1, '--skip-finished')
    assert again['config'] == first['config']


def test_defaults_are_those_of_the_task():
    def recipe(argv):
        return action_recognition.recipe_of(action_recognition.parse_args(argv))

    finetune = ['--finetune', '--pretrained', 'c.pth.tar']
    alone, tuned = recipe([]), recipe(finetune)
    assert (alone.lr, alone.batch_size, alone.epochs, alone.schedule) == (
        [0.03],
        512,
        150,
        [120, 140],
    )
    assert (tuned.lr, tuned.batch_size, tuned.epochs, tuned.schedule) == ([0.01], 64, 80, [50, 70])
    given = ['--lr', '0.2', '--batch-size', '7', '--epochs', '9', '--schedule']
    alone, tuned = recipe(given), recipe([*finetune, *given])
    assert (alone.lr, alone.batch_size, alone.epochs, alone.schedule) == ([0.2], 7, 9, [])
    assert (tuned.lr, tuned.batch_size, tuned.epochs, tuned.schedule) == ([0.2], 7, 9, [])


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--lr'], '--lr'),
        (['--lr', '-0.1'], '-0.1 is not a number from 0'),
        (['--lr', '0.1', 'nan'], 'nan is not a number from 0'),
        (['--lr', '0.1', '0.10'], '--lr has a value twice'),
        (['--lr', '0.1', '0.2', '--finetune'], '--finetune takes one --lr'),
        (['--data-ratio', '0.1'], '--data-ratio: needs --finetune'),
        (['--ensemble', '--modalities', 'bone'], '--ensemble takes two or more modalities'),
        (['--ensemble', '--all-modalities'], '--all-modalities'),
        (
            ['--all-modalities', '--modalities', 'bone'],
            '--all-modalities takes two or more modalities',
        ),
    ],
)
def test_a_mistake_is_one_line(setting, mistake, argv, message):
    assert message in mistake(action_recognition.main, [*setting, *argv])
