"""Fine-tuning as a user asks for it: what is run, what is kept and gone on with, and what is said to a mistake."""
import csv
import json
import pickle
import statistics

import numpy as np
import pytest
import torch

import action_recognition
from data_gen.cli import InputError
from model.umurl import UmURL
from tools import checkpoint, finetune
from tools.draws import draw

SEVEN = ['joint', 'bone', 'motion', 'joint+bone', 'joint+motion', 'bone+motion', 'joint+bone+motion']


@pytest.fixture
def folder(tmp_path, padded_arrays):
    """A tiny NTU-60 x-sub whose two parts share no name."""
    folder = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'
    padded_arrays(folder, train=20, val=7)
    names, labels = pickle.loads((folder / 'val_label.pkl').read_bytes())
    names = [name.replace('S001', 'S002') for name in names]
    (folder / 'val_label.pkl').write_bytes(pickle.dumps((names, labels)))
    return folder


@pytest.fixture
def setting(tmp_path, folder):
    """Flags for it, and for an untrained checkpoint of width 8."""
    torch.manual_seed(0)
    model = UmURL(150, 192, 8)
    checkpoint.save(tmp_path / 'checkpoint.pth.tar', model, torch.optim.Adam(model.parameters()), 1)
    return ['--data-root', str(tmp_path / 'data'), '--pretrained', str(tmp_path / 'checkpoint.pth.tar'),
            '--device', 'cpu', '--finetune', '--epochs', '1']


@pytest.fixture
def results(setting, tmp_path):
    """results(*flags): run the script; its results file."""
    def run(*flags):
        action_recognition.main([*setting, '--results', str(tmp_path / 'made/results.json'), *map(str, flags)])
        return json.loads((tmp_path / 'made/results.json').read_text())
    return run


@pytest.fixture
def made_logits(monkeypatch):
    """Runs that train nothing: logits by subset, share of the labels and repeat; the list of those asked for.

    A run asked for beyond `limit` of them is interrupted.
    """
    class Calls(list):
        limit = 1000

    calls = Calls()

    def train(task, subset, drawn, repeat, args, bar):
        if len(calls) == calls.limit:
            raise KeyboardInterrupt
        calls.append(('+'.join(subset), len(drawn), repeat))
        generator = torch.Generator().manual_seed(sum(map(ord, str(calls[-1]))))
        return {epoch: torch.randn(7, 60, generator=generator) for epoch in (5, 6)}, 0.5
    monkeypatch.setattr(finetune, 'train', train)
    return calls


def test_all_labels(results, capsys):
    made = results('--epochs', 30, '--lr', 0.03)
    assert made['task'] == 'fine-tuning'
    hits = [prediction == label for prediction, label in zip(made['predictions'], made['labels'], strict=True)]
    assert made['accuracy'] == pytest.approx(100 * sum(hits) / 7)
    assert made['accuracy'] > 60  # of three classes that are told apart by their pose
    assert made['best_accuracy'] >= made['accuracy']
    assert made['best_epoch'] % 5 == 0
    assert made['accuracy_interval'][0] <= made['accuracy'] <= made['accuracy_interval'][1]
    assert (made['data_ratio'], made['clips'], made['repeats'], made['draws']) == (1, 20, 1, [])
    assert made['args']['batch_size'] == 64
    assert made['args']['schedule'] == [50, 70]
    assert made['checkpoint_sha256']
    assert len(made['runs']) == len(made['table']) == 1
    assert made['table'][0]['accuracy_interval'] == made['accuracy_interval']
    assert f'{made["accuracy"]:.2f}' in capsys.readouterr().out


def test_semi_supervised(results, folder):
    made = results('--data-ratio', 0.1, 0.5, '--repeats', 3)
    assert [(run['data_ratio'], run['repeat'], run['clips']) for run in made['runs']] == [
        (ratio, repeat, clips) for ratio, clips in ((0.1, 2), (0.5, 10)) for repeat in range(3)]
    for row in made['table']:
        runs = [run for run in made['runs'] if run['data_ratio'] == row['data_ratio']]
        for name in ('accuracy', 'top5_accuracy', 'mean_class_accuracy', 'best_accuracy'):
            values = [run[name] for run in runs]
            assert row[name] == pytest.approx(statistics.mean(values))
            assert row[f'{name}_std'] == pytest.approx(statistics.stdev(values))
    assert made['data_ratio'] == 0.5  # the largest share stands for the whole
    assert made['accuracy'] == made['table'][1]['accuracy']
    assert 'predictions' not in made
    assert {len(run['predictions']) for run in made['runs']} == {7}


@pytest.mark.parametrize('how', ['random', 'balanced'])
def test_drawn_clips_are_named_and_none_is_a_test_clip(results, folder, made_logits, how):
    made = results('--data-ratio', 0.2, 0.5, '--repeats', 2, '--draw', how, '--seed', 3)
    names, labels = pickle.loads((folder / 'train_label.pkl').read_bytes())
    test_names, _ = pickle.loads((folder / 'val_label.pkl').read_bytes())
    assert [(drawn['data_ratio'], drawn['repeat']) for drawn in made['draws']] == [(.2, 0), (.2, 1), (.5, 0), (.5, 1)]
    for drawn in made['draws']:
        again = draw(torch.tensor(labels), drawn['data_ratio'], how, 3, drawn['repeat'])
        assert drawn['clips'] == [names[clip] for clip in again]
        assert not set(drawn['clips']) & set(test_names)


def test_what_is_drawn_is_what_is_trained_on(setting, tmp_path, folder, monkeypatch):
    asked = {}

    def train(task, subset, drawn, repeat, args, bar):
        asked[repeat] = [task.train.names[clip] for clip in drawn]
        return {1: torch.zeros(7, 60)}, 0.
    monkeypatch.setattr(finetune, 'train', train)
    action_recognition.main([*setting, '--data-ratio', '.3', '--results', str(tmp_path / 'r.json')])
    drawn = {drawn['repeat']: drawn['clips'] for drawn in json.loads((tmp_path / 'r.json').read_text())['draws']}
    assert asked == drawn
    assert len(drawn) == 5  # repeats, if nothing else is said


def test_repeats_with_all_labels(results):
    made = results('--repeats', 2, '--modalities', 'bone')
    assert [run['clips'] for run in made['runs']] == [20, 20]
    assert made['runs'][0]['training_loss'] != made['runs'][1]['training_loss']


def test_all_modalities(results, made_logits, capsys):
    made = results('--all-modalities', '--data-ratio', 0.1, 0.2, '--repeats', 1)
    assert [row['modalities'] for row in made['table']] == [*SEVEN, '3s'] * 2
    assert [row['data_ratio'] for row in made['table']] == [0.1] * 8 + [0.2] * 8
    assert len(made_logits) == 14  # a late fusion trains nothing of its own
    assert made['modalities'] == 'joint+bone+motion'
    assert made['predictions'] == made['runs'][14]['predictions']
    assert capsys.readouterr().out.count('3s') == 2


def test_an_ensemble_by_hand(results, monkeypatch):
    looks = {modality: {epoch: torch.randn(7, 60) for epoch in (5, 6)} for modality in ('joint', 'motion')}
    monkeypatch.setattr(finetune, 'train', lambda task, subset, *rest: (looks[subset[0]], 0.5))
    made = results('--ensemble', '--modalities', 'joint', 'motion')
    assert [run['modalities'] for run in made['runs']] == ['joint', 'motion', '2s']
    assert made['modalities'] == '2s'
    assert made['predictions'] == (looks['joint'][6] + looks['motion'][6]).argmax(1).tolist()


FLAGS = ['--ensemble', '--data-ratio', 0.1, 0.2, '--repeats', 2]  # 16 records of 12 models


@pytest.mark.parametrize(('stop', 'kept', 'models'), [(5, 6, 9), (6, 8, 6), (0, 0, 12)])
def test_a_stopped_command_goes_on(results, made_logits, tmp_path, capsys, stop, kept, models):
    whole = results(*FLAGS)
    (tmp_path / 'made/results.json').unlink()
    made_logits.limit, made_logits[:] = stop, []
    with pytest.raises(KeyboardInterrupt):
        results(*FLAGS)
    if stop:
        assert 'accuracy' not in json.loads((tmp_path / 'made/results.json').read_text())
    made_logits.limit, made_logits[:] = 1000, []
    again = results(*FLAGS)
    assert len(made_logits) == models
    assert {name: again[name] for name in again if name != 'command'} == {
        name: whole[name] for name in whole if name != 'command'}
    assert (f'has {kept} of 16 runs: going on' in capsys.readouterr().err) == (stop > 0)


def test_what_is_done_is_not_done_again(results, made_logits):
    first = results(*FLAGS)
    made_logits.clear()
    again = results(*FLAGS)
    assert made_logits == []
    assert again['table'] == first['table']
    more = results(*FLAGS[:-1], 3)  # one repeat more
    assert len(made_logits) == 6
    assert [(run['data_ratio'], run['repeat'], run['modalities']) for run in more['runs']] == [
        (ratio, repeat, name) for ratio in (0.1, 0.2) for repeat in range(3)
        for name in ('joint', 'bone', 'motion', '3s')]


@pytest.mark.parametrize('change', [['--seed', 1], ['--lr', 0.1], ['--draw', 'balanced'], ['--epochs', 2],
                                    ['--batch-size', 3], ['--schedule'], ['--amp', 'bf16'], ['--wd', 0.1], 'weights'])
def test_other_arguments_start_anew(results, made_logits, tmp_path, capsys, change):
    results('--data-ratio', 0.1)
    made_logits.clear()
    if change == 'weights':
        model = UmURL(150, 192, 8)
        checkpoint.save(tmp_path / 'checkpoint.pth.tar', model, torch.optim.Adam(model.parameters()), 1)
        change = []
    results('--data-ratio', 0.1, *change)
    assert len(made_logits) == 5
    moved = tmp_path / 'made/results_earlier_1.json'
    assert f'it was moved to {moved}' in capsys.readouterr().err
    assert len(json.loads(moved.read_text())['runs']) == 5


def test_two_ensembles_of_two_are_not_mixed(results, made_logits):
    results('--ensemble', '--modalities', 'joint', 'bone')
    made_logits.clear()
    results('--ensemble', '--modalities', 'joint', 'motion')
    assert [name for name, *_ in made_logits] == ['joint', 'motion']


def test_a_fine_tuned_model_can_be_evaluated(results, tmp_path):
    file = tmp_path / 'tuned.pth.tar'
    results('--save-model', file)
    tuned, saved = checkpoint.load_model(file).backbone.state_dict(), checkpoint.read(file)['state_dict']
    assert all(value.equal(saved[f'backbone.{name}']) for name, value in tuned.items())
    del saved['backbone.j_emb.t_embedding.0.bias']
    torch.save({'state_dict': saved}, file)
    with pytest.raises(InputError, match='1 missing tensors'):
        checkpoint.load_model(file)


def test_a_draw_smaller_than_the_classes_is_said(results, capsys):
    results('--data-ratio', 0.05, '--repeats', 1)
    assert 'note: the smallest draw has 1 clips, for 60 classes' in capsys.readouterr().err


@pytest.mark.parametrize('content', [b'', b'{"task": "linear probe", "accuracy": 3}', b'[]', b'{"runs": [3]}', b'\xff'])
def test_another_file_under_that_name_is_replaced(results, made_logits, tmp_path, content):
    (tmp_path / 'made').mkdir()
    (tmp_path / 'made/results.json').write_bytes(content)
    assert len(results()['runs']) == 1


def test_classes_and_weights_of_a_single_run(results, tmp_path):
    made = results('--modalities', 'joint', '--per-class', tmp_path / 'c/classes.csv', '--save-model',
                   tmp_path / 'new/fine.pth.tar')
    state = torch.load(tmp_path / 'new/fine.pth.tar', weights_only=True)['state_dict']
    assert state['module.fc.weight'].shape == (60, 16)
    rows = list(csv.DictReader((tmp_path / 'c/classes.csv').open()))
    assert sum(int(row['correct']) for row in rows) == round(made['accuracy'] * 7 / 100)
    (tmp_path / 'new/fine.pth.tar').unlink()
    results('--modalities', 'joint', '--save-model', tmp_path / 'new/fine.pth.tar')  # though the result is there
    assert (tmp_path / 'new/fine.pth.tar').is_file()


@pytest.mark.parametrize(('flags', 'message'), [
    (['--data-ratio', 0], '0 is not above 0 and at most 1'),
    (['--data-ratio', 1.5], '1.5 is not above 0'),
    (['--data-ratio', 'nan'], 'nan is not above 0'),
    (['--data-ratio', 'all'], '--data-ratio'),
    (['--data-ratio', 0.1, 0.2, 0.10], '--data-ratio has a share twice'),
    (['--repeats', 0], '--repeats'),
    (['--draw', 'balanced'], '--draw goes with --data-ratio'),
    (['--data-ratio', 0.1, '--draw', 'fair'], '--draw'),
    (['--load-features', 'f.npz'], 'no features to save or to load'),
    (['--save-features', 'f.npz'], 'no features to save or to load'),
    (['--lr', 0.1, 0.2], 'one --lr'),
    (['--save-model', 'f.pth.tar', '--data-ratio', 0.1], '--save-model is of a single run'),
    (['--save-model', 'f.pth.tar', '--ensemble'], '--save-model is of a single run'),
    (['--per-class', 'f.csv', '--repeats', 2], '--per-class is of a single run'),
    (['--pretrained', '/no/such.pth.tar'], 'no such checkpoint'),
])
def test_a_mistake_is_one_line(setting, mistake, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    assert message in mistake(action_recognition.main, [*setting, *flags])


@pytest.mark.parametrize('flag', ['--data-ratio 0.1', '--repeats 2', '--draw random', '--save-model f.pth.tar'])
def test_a_flag_of_fine_tuning_alone_is_a_mistake(setting, mistake, flag):
    setting.remove('--finetune')
    assert f'{flag.split()[0]} goes with --finetune' in mistake(action_recognition.main, [*setting, *flag.split()])


def test_without_a_checkpoint_there_is_nothing_to_tune(mistake):
    assert '--finetune needs --pretrained' in mistake(action_recognition.main, ['--finetune'])


def test_arrays_of_one_body_are_a_mistake(setting, folder, mistake):
    np.save(folder / 'val_data_joint.npy', np.load(folder / 'val_data_joint.npy')[..., :1])
    assert '75 numbers a frame' in mistake(action_recognition.main, setting)


def test_several_processes_are_a_mistake(setting, mistake, monkeypatch):
    monkeypatch.setattr(finetune, 'world_size', lambda: 2)
    assert 'leave out torchrun' in mistake(action_recognition.main, setting)
