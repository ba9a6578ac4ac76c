"""Semi-supervised fine-tuning: the draws, and the runs as a user asks for them: kept, resumed,
summarised.
"""

import csv
import json
import pickle
import statistics

import numpy as np
import pytest
import torch

import action_recognition
from tools import checkpoint
from tools.common.cli import InputError
from tools.evaluation.finetune import FineTuning
from tools.evaluation.semi_supervised import draw_labels, evaluate

LABELS = torch.tensor(
    [0] * 50 + [3] * 30 + [7] * 19 + [9]
)  # 100 clips, four classes, the last of one clip
SEVEN = [
    'joint',
    'bone',
    'motion',
    'joint+bone',
    'joint+motion',
    'bone+motion',
    'joint+bone+motion',
]


def counts(drawn):
    return torch.bincount(LABELS[drawn], minlength=10)[[0, 3, 7, 9]].tolist()


@pytest.mark.parametrize('draw', ['random', 'balanced'])
def test_a_draw_follows_from_seed_ratio_and_repeat(draw):
    first = draw_labels(LABELS, 0.2, draw, seed=1, repeat=0)
    torch.manual_seed(5)
    assert draw_labels(LABELS, 0.2, draw, seed=1, repeat=0).equal(first)
    assert not draw_labels(LABELS, 0.2, draw, seed=2, repeat=0).equal(first)
    assert not draw_labels(LABELS, 0.2, draw, seed=1, repeat=1).equal(first)


def test_draws_of_two_ratios_are_independent():
    small, large = (
        set(draw_labels(LABELS, ratio, 'random', 0, 0).tolist()) for ratio in (0.3, 0.4)
    )
    assert not small <= large


@pytest.mark.parametrize(
    ('ratio', 'clips'), [(0.001, 1), (0.01, 1), (0.05, 5), (0.29, 28), (0.126, 12), (1, 100)]
)
def test_a_random_draw_is_int_of_share_times_clips(ratio, clips):
    drawn = draw_labels(LABELS, ratio, 'random', 0, 0)
    assert len(drawn) == clips == max(1, int(100 * ratio))
    assert drawn.unique().equal(drawn)  # ascending, none twice
    assert drawn.max() < 100


def test_a_plain_draw_knows_no_classes():
    share = (
        sum(
            torch.tensor(counts(draw_labels(LABELS, 0.1, 'random', 0, repeat)))
            for repeat in range(400)
        )
        / 4000
    )
    assert share.tolist() == pytest.approx([0.5, 0.3, 0.19, 0.01], abs=0.03)


@pytest.mark.parametrize(
    ('ratio', 'each'),
    [
        (0.001, [1, 1, 1, 1]),
        (0.08, [2, 2, 2, 1]),
        (0.2, [5, 5, 5, 1]),
        (0.9, [22, 22, 19, 1]),
        (1, [25, 25, 19, 1]),
    ],
)
def test_a_balanced_draw_has_the_same_number_of_each_class(ratio, each):
    drawn = draw_labels(LABELS, ratio, 'balanced', 0, 0)
    assert counts(drawn) == each
    assert drawn.unique().equal(drawn)


def test_every_clip_of_a_class_can_be_drawn():
    seen = torch.cat(
        [draw_labels(LABELS, 0.2, 'balanced', 0, repeat) for repeat in range(60)]
    ).unique()
    assert len(seen) == 100


@pytest.fixture
def xsub(xsub, padded_arrays):
    """One whose splits share no name."""
    padded_arrays(xsub, train=20, val=7)
    names, labels = pickle.loads((xsub / 'val_label.pkl').read_bytes())
    names = [name.replace('S001', 'S002') for name in names]
    (xsub / 'val_label.pkl').write_bytes(pickle.dumps((names, labels)))
    return xsub


@pytest.fixture
def setting(setting):
    return [*setting, '--finetune', '--epochs', '1']


@pytest.fixture
def results(setting, tmp_path):
    """results(*flags): run the script; its results file."""

    def run(*flags):
        action_recognition.main(
            [*setting, '--results', str(tmp_path / 'made/results.json'), *map(str, flags)]
        )
        return json.loads((tmp_path / 'made/results.json').read_text())

    return run


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by random logits. The list of models that were to be trained: (modalities,
    clips, repeat).

    The one after `limit` of them is interrupted.
    """

    class Calls(list):
        limit = 1000

    calls = Calls()

    def finetune(*inputs, modalities, clips, repeat, **settings):
        if len(calls) == calls.limit:
            raise KeyboardInterrupt
        calls.append(('+'.join(modalities), len(clips), repeat))
        generator = torch.Generator().manual_seed(sum(map(ord, str(calls[-1]))))
        return FineTuning({epoch: torch.randn(7, 60, generator=generator) for epoch in (5, 6)}, 0.5)

    monkeypatch.setattr(action_recognition, 'finetune', finetune)
    return calls


def test_all_labels(results, capsys):
    made = results('--epochs', 30, '--lr', 0.03)
    assert made['task'] == 'fine-tuning'
    hits = [
        prediction == label
        for prediction, label in zip(made['predictions'], made['labels'], strict=True)
    ]
    assert made['accuracy'] == pytest.approx(100 * sum(hits) / 7)
    assert made['accuracy'] > 60  # of three classes that are told apart by their pose
    assert made['best_accuracy'] >= made['accuracy']
    assert made['best_epoch'] % 5 == 0
    assert made['accuracy_interval'][0] <= made['accuracy'] <= made['accuracy_interval'][1]
    assert (made['data_ratio'], made['clips'], made['repeats'], made['draws']) == (1, 20, 1, [])
    assert made['val_names'][0] == 'S002C001P001R001A001.skeleton'
    assert made['performers'] == list(range(1, 8))
    assert made['performer_interval'][0] <= made['accuracy'] <= made['performer_interval'][1]
    assert (made['config']['batch_size'], made['config']['schedule'], made['config']['lr']) == (
        64,
        [50, 70],
        [0.03],
    )
    assert len(made['config']['checkpoint_sha256']) == len(made['config']['data_sha256']) == 64
    assert len(made['runs']) == len(made['table']) == 1
    assert made['table'][0]['accuracy_interval'] == made['accuracy_interval']
    assert f'{made["accuracy"]:.2f}' in capsys.readouterr().out


def test_semi_supervised(results, xsub):
    made = results('--data-ratio', 0.1, 0.5, '--repeats', 3)
    assert [(run['data_ratio'], run['repeat'], run['clips']) for run in made['runs']] == [
        (ratio, repeat, clips) for ratio, clips in ((0.1, 2), (0.5, 10)) for repeat in range(3)
    ]
    for row in made['table']:
        runs = [run for run in made['runs'] if run['data_ratio'] == row['data_ratio']]
        for name in ('accuracy', 'top5_accuracy', 'mean_class_accuracy', 'best_accuracy'):
            values = [run[name] for run in runs]
            assert row[name] == pytest.approx(statistics.mean(values))
            assert row[f'{name}_std'] == pytest.approx(statistics.stdev(values))
    assert made['data_ratio'] == 0.5  # the largest share is the result
    assert made['accuracy'] == made['table'][1]['accuracy']
    assert 'predictions' not in made
    assert {len(run['predictions']) for run in made['runs']} == {7}


@pytest.mark.parametrize('draw', ['random', 'balanced'])
def test_drawn_clips_are_named_and_none_is_a_test_clip(results, xsub, trained, draw):
    made = results('--data-ratio', 0.2, 0.5, '--repeats', 2, '--draw', draw, '--seed', 3)
    names, labels = pickle.loads((xsub / 'train_label.pkl').read_bytes())
    test_names, _ = pickle.loads((xsub / 'val_label.pkl').read_bytes())
    assert [(drawn['data_ratio'], drawn['repeat']) for drawn in made['draws']] == [
        (0.2, 0),
        (0.2, 1),
        (0.5, 0),
        (0.5, 1),
    ]
    for drawn in made['draws']:
        again = draw_labels(torch.tensor(labels), drawn['data_ratio'], draw, 3, drawn['repeat'])
        assert drawn['clips'] == [names[clip] for clip in again]
        assert not set(drawn['clips']) & set(test_names)


def test_what_is_drawn_is_what_is_trained_on(setting, tmp_path, monkeypatch):
    used = {}

    def finetune(inputs, *settings, modalities, clips, repeat):
        used[repeat] = [inputs.train.names[clip] for clip in clips]
        return FineTuning({1: torch.zeros(7, 60)}, 0.0)

    monkeypatch.setattr(action_recognition, 'finetune', finetune)
    action_recognition.main([*setting, '--data-ratio', '.3', '--results', str(tmp_path / 'r.json')])
    drawn = {
        drawn['repeat']: drawn['clips']
        for drawn in json.loads((tmp_path / 'r.json').read_text())['draws']
    }
    assert used == drawn
    assert len(drawn) == 5  # the default of --repeats


def test_repeats_with_all_labels(results):
    made = results('--repeats', 2, '--modalities', 'bone')
    assert [run['clips'] for run in made['runs']] == [20, 20]
    assert made['runs'][0]['training_loss'] != made['runs'][1]['training_loss']


def test_all_modalities(results, trained, capsys):
    made = results('--all-modalities', '--data-ratio', 0.1, 0.2, '--repeats', 1)
    assert [row['modalities'] for row in made['table']] == [*SEVEN, '3s'] * 2
    assert [row['data_ratio'] for row in made['table']] == [0.1] * 8 + [0.2] * 8
    assert len(trained) == 14  # a late fusion trains nothing of its own
    assert made['modalities'] == 'joint+bone+motion'
    assert made['predictions'] == made['runs'][14]['predictions']
    assert capsys.readouterr().out.count(' 3s ') == 2


def test_an_ensemble_by_hand(results, monkeypatch):
    logits = {
        modality: {epoch: torch.randn(7, 60) for epoch in (5, 6)}
        for modality in ('joint', 'motion')
    }
    monkeypatch.setattr(
        action_recognition,
        'finetune',
        lambda *inputs, modalities, **settings: FineTuning(logits[modalities[0]], 0.5),
    )
    made = results('--ensemble', '--modalities', 'joint', 'motion')
    assert [run['modalities'] for run in made['runs']] == ['joint', 'motion', '2s']
    assert made['modalities'] == '2s'
    assert made['predictions'] == (logits['joint'][6] + logits['motion'][6]).argmax(1).tolist()


FLAGS = ['--ensemble', '--data-ratio', 0.1, 0.2, '--repeats', 2]  # 16 records of 12 models


@pytest.mark.parametrize(('stop', 'kept', 'models'), [(5, 6, 9), (6, 8, 6), (0, 0, 12)])
def test_a_stopped_command_resumes(results, trained, tmp_path, capsys, stop, kept, models):
    whole = results(*FLAGS)
    (tmp_path / 'made/results.json').unlink()
    trained.limit, trained[:] = stop, []
    with pytest.raises(KeyboardInterrupt):
        results(*FLAGS)
    if stop:
        assert 'accuracy' not in json.loads((tmp_path / 'made/results.json').read_text())
    trained.limit, trained[:] = 1000, []
    again = results(*FLAGS)
    assert len(trained) == models
    assert {name: again[name] for name in again if name != 'command'} == {
        name: whole[name] for name in whole if name != 'command'
    }
    assert (f'has {kept} of 16 runs: resuming' in capsys.readouterr().err) == (stop > 0)


def test_finished_runs_are_reused(results, trained, tmp_path):
    first = results(*FLAGS)
    trained.clear()
    again = results(*FLAGS)
    assert trained == []
    assert again['table'] == first['table']
    more = results(*FLAGS[:-1], 3)  # one repeat more
    assert len(trained) == 6
    assert more['runs'][:8] == again['runs'][:8]
    assert not (tmp_path / 'made/earlier_1').exists()
    assert [(run['data_ratio'], run['repeat'], run['modalities']) for run in more['runs']] == [
        (ratio, repeat, name)
        for ratio in (0.1, 0.2)
        for repeat in range(3)
        for name in ('joint', 'bone', 'motion', '3s')
    ]


@pytest.mark.parametrize(
    'change',
    [
        ['--seed', 1],
        ['--lr', 0.1],
        ['--draw', 'balanced'],
        ['--epochs', 2],
        ['--batch-size', 3],
        ['--schedule'],
        ['--amp', 'bf16'],
        ['--wd', 0.1],
        ['--modalities', 'bone'],
        'weights',
        'draws',
    ],
)
def test_other_settings_start_anew(results, trained, tmp_path, save_untrained, capsys, change):
    first = results('--data-ratio', 0.1)
    trained.clear()
    if change == 'draws':  # as before their version was recorded
        del first['config']['draws_version']
        (tmp_path / 'made/results.json').write_text(json.dumps(first))
        change = []
    if change == 'weights':
        save_untrained(tmp_path / 'checkpoint.pth.tar', seed=1)
        change = []
    results('--data-ratio', 0.1, *change)
    assert len(trained) == 5
    moved = tmp_path / 'made/earlier_1/results.json'
    assert f'it was moved to {moved.parent}' in capsys.readouterr().err
    assert len(json.loads(moved.read_text())['runs']) == 5


def test_two_ensembles_of_two_are_not_mixed(results, trained):
    results('--ensemble', '--modalities', 'joint', 'bone')
    trained.clear()
    results('--ensemble', '--modalities', 'joint', 'motion')
    assert [name for name, *_ in trained] == ['joint', 'motion']


def test_a_fine_tuned_model_can_be_evaluated(results, tmp_path):
    file, path = tmp_path / 'tuned.pth.tar', tmp_path / 'checkpoint.pth.tar'
    about = {
        'objective': 'umurl',
        'modalities': ['joint', 'bone', 'motion'],
        'dataset': 'ntu60',
        'protocol': 'cross_subject',
        'epochs': 451,
    }
    torch.save(torch.load(path) | {'config': about}, path)
    results('--save-model', file)
    assert checkpoint.load_model(file)[1] == about  # what it was pre-trained on
    tuned, saved = (
        checkpoint.load_model(file)[0].backbone.state_dict(),
        checkpoint.read(file)['state_dict'],
    )
    assert all(value.equal(saved[f'backbone.{name}']) for name, value in tuned.items())
    del saved['backbone.j_emb.t_embedding.0.bias']
    torch.save({'state_dict': saved}, file)
    with pytest.raises(InputError, match='1 missing tensors'):
        checkpoint.load_model(file)


def test_a_note_about_a_draw_with_fewer_clips_than_classes(results, capsys):
    results('--data-ratio', 0.05, '--repeats', 1)
    assert 'note: the smallest draw has 1 clips for 60 classes' in capsys.readouterr().err


@pytest.mark.parametrize(
    'content', [b'', b'{"task": "linear probe", "accuracy": 3}', b'[]', b'{"runs": [3]}', b'\xff']
)
def test_another_file_under_that_name_is_replaced(results, trained, tmp_path, content):
    (tmp_path / 'made').mkdir()
    (tmp_path / 'made/results.json').write_bytes(content)
    assert len(results()['runs']) == 1


def test_classes_and_weights_of_a_single_run(results, tmp_path):
    made = results(
        '--modalities',
        'joint',
        '--per-class',
        tmp_path / 'c/classes.csv',
        '--save-model',
        tmp_path / 'new/fine.pth.tar',
    )
    state = torch.load(tmp_path / 'new/fine.pth.tar', weights_only=True)['state_dict']
    assert state['module.fc.weight'].shape == (60, 16)
    rows = list(csv.DictReader((tmp_path / 'c/classes.csv').open()))
    assert sum(int(row['correct']) for row in rows) == round(made['accuracy'] * 7 / 100)
    (tmp_path / 'new/fine.pth.tar').unlink()
    results(
        '--modalities', 'joint', '--save-model', tmp_path / 'new/fine.pth.tar'
    )  # although the result exists
    assert (tmp_path / 'new/fine.pth.tar').is_file()


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--data-ratio', 0], 'shares above 0 and at most 1'),
        (['--data-ratio', 1.5], 'shares above 0 and at most 1'),
        (['--data-ratio', 'nan'], '--data-ratio'),
        (['--data-ratio', 'all'], '--data-ratio'),
        (['--data-ratio', 0.1, 0.2, 0.10], '--data-ratio has a share twice'),
        (['--repeats', 0], '--repeats'),
        (['--draw', 'balanced'], '--draw needs --data-ratio'),
        (['--data-ratio', 0.1, '--draw', 'fair'], '--draw'),
        (['--load-features', 'f.npz'], '--finetune uses no features files'),
        (['--save-features', 'f.npz'], '--finetune uses no features files'),
        (['--lr', 0.1, 0.2], 'one --lr'),
        (
            ['--save-model', 'f.pth.tar', '--data-ratio', 0.1],
            '--save-model needs a single --data-ratio, run and model',
        ),
        (
            ['--save-model', 'f.pth.tar', '--ensemble'],
            '--save-model needs a single --data-ratio, run and model',
        ),
        (
            ['--per-class', 'f.csv', '--repeats', 2],
            '--per-class needs a single --data-ratio and run',
        ),
        (['--pretrained', '/no/such.pth.tar'], 'no such checkpoint'),
    ],
)
def test_a_mistake_is_one_line(setting, mistake, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    np.savez('f.npz', train_labels=[0], val_labels=[0])
    assert message in mistake(action_recognition.main, [*setting, *flags])


@pytest.mark.parametrize(
    'flag', ['--data-ratio 0.1', '--repeats 2', '--draw random', '--save-model f.pth.tar']
)
def test_a_flag_of_fine_tuning_alone_is_a_mistake(setting, mistake, flag):
    setting.remove('--finetune')
    assert f'{flag.split()[0]}: needs --finetune' in mistake(
        action_recognition.main, [*setting, *flag.split()]
    )


def test_without_a_checkpoint_there_is_nothing_to_tune(mistake):
    assert '--finetune needs --pretrained' in mistake(action_recognition.main, ['--finetune'])


def test_arrays_of_one_body_are_a_mistake(setting, xsub, mistake):
    np.save(xsub / 'val_data_joint.npy', np.load(xsub / 'val_data_joint.npy')[..., :1])
    assert '75 numbers per frame' in mistake(action_recognition.main, setting)


def test_fewer_runs_keep_the_others_aside(results, trained, tmp_path, capsys):
    whole = results('--data-ratio', 0.1, 0.2, '--repeats', 2)
    trained.clear()
    fewer = results('--data-ratio', 0.2, '--repeats', 2)
    assert trained == []
    assert fewer['runs'] == whole['runs'][2:]
    assert json.loads((tmp_path / 'made/earlier_1/results.json').read_text()) == whole
    assert 'has other shares or more repeats' in capsys.readouterr().err


def test_skip_finished(results, trained, capsys):
    first = results('--data-ratio', 0.1, '--skip-finished')
    trained.clear()
    capsys.readouterr()
    assert results('--data-ratio', 0.1, '--skip-finished') == first
    assert 'results.json: finished already\n' in capsys.readouterr().out
    assert len(results('--data-ratio', 0.1, 0.2, '--skip-finished')['runs']) == 10
    assert len(trained) == 5


def test_scores_by_hand():
    labels = torch.tensor([0, 1, 1])
    right, wrong = torch.eye(6)[0], torch.tensor([6.0, 0, 5, 4, 3, 2])  # class 1 is last
    fifth = torch.tensor([5.0, 1, 4, 3, 2, 0])
    model = FineTuning(
        {5: torch.stack((right, torch.eye(6)[1], fifth)), 10: torch.stack((right, wrong, fifth))},
        0.7,
    )
    made = evaluate([model], labels, 6)
    assert made['accuracy'] == pytest.approx(100 / 3)
    assert made['top5_accuracy'] == pytest.approx(200 / 3)
    assert made['mean_class_accuracy'] == pytest.approx(50)
    assert (made['best_accuracy'], made['best_epoch']) == (pytest.approx(200 / 3), 5)
    assert (made['predictions'].tolist(), made['training_loss']) == ([0, 0, 0], 0.7)


def test_late_fusion_adds_the_logits_of_each_evaluation():
    one = FineTuning({5: torch.tensor([[2.0, 0]]), 8: torch.tensor([[0.0, 2]])}, 0.1)
    other = FineTuning({5: torch.tensor([[0.0, 1]]), 8: torch.tensor([[3.0, 0]])}, 0.1)
    made = evaluate([one, other], torch.tensor([0]), 2)
    assert (made['predictions'].tolist(), made['best_accuracy'], made['best_epoch']) == (
        [0],
        100,
        5,
    )
    assert evaluate([one, one], torch.tensor([0]), 2)['predictions'].tolist() == [1]
    assert made['training_loss'] is None
