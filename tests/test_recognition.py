"""The linear probe: the recorded numbers, several heads at once, late fusion, and the script as a user runs it."""
import csv
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import action_recognition
from data_gen.cli import InputError
from feeder.feeders import generator_at
from model.umurl import UmURL
from tools import checkpoint, probe
from tools.features import SUBSETS, Features

ABOUT = {'objective': 'umurl', 'modalities': ['joint', 'bone', 'motion'], 'dataset': 'ntu60',
         'protocol': 'cross_subject', 'hidden_size': 8, 'seed': 0, 'epochs': 1, 'batch_size': 8}

SCORES = ('lr', 'accuracy', 'accuracy_interval', 'top5_accuracy', 'mean_class_accuracy', 'class_accuracy',
          'best_accuracy', 'best_epoch')


def flags(**changes):
    """The flags of the probe as they reach `fit`."""
    return Namespace(**{'lr': [0.1], 'momentum': 0.9, 'weight_decay': 0., 'batch_size': 16, 'schedule': [3, 5],
                        'cos': False, 'epochs': 6, 'seed': 0} | changes)


def made_features(seed=0, clips=50, width=6, classes=4):
    """Features of classes that overlap, so that no probe is right everywhere."""
    rng = np.random.default_rng(seed)
    labels = [np.random.default_rng(1).integers(0, classes, clips), np.arange(clips) % classes]
    centres = rng.normal(size=(classes, width))
    train, val = (torch.from_numpy(centres[part] + rng.normal(size=(clips, width))).float() for part in labels)
    return Features(train, torch.from_numpy(labels[0]), val, torch.from_numpy(labels[1]))


def fitted(data, args, classes=4):
    """(heads, losses of each epoch (epochs, L)) of the training part."""
    heads = probe.Heads(probe.linear_head(data.train.shape[1], classes, args.seed), len(args.lr))
    losses = list(probe.fit(heads, data.train, data.train_labels, probe.orders(len(data.train), args), args))
    return heads, torch.stack(losses)


def test_probe_as_recorded(recorded):
    made = {name: torch.from_numpy(value) for name, value in recorded('evaluation').items()}
    start = torch.nn.Linear(64, 12)
    with torch.no_grad():
        start.weight.copy_(made['weight0'])
        start.bias.zero_()
    heads = probe.Heads(start, 1)
    args = flags(lr=[0.03], batch_size=64, schedule=[12, 16])
    accuracy = [100 * (heads(made['test'])[0].argmax(0) == made['test_labels']).float().mean().item()
                for _ in probe.fit(heads, made['train'], made['train_labels'], made['order'], args)]
    assert accuracy == pytest.approx(made['accuracy'].tolist(), abs=1e-3)
    assert float((heads.weight[0] - made['weight']).norm() / made['weight'].norm()) < 1e-4
    assert float((heads.bias[0] - made['bias']).norm() / made['bias'].norm()) < 1e-4


@pytest.mark.parametrize('changes', [{}, {'momentum': 0.}, {'weight_decay': 0.1}, {'cos': True}])
def test_fit_is_autograd_and_torchs_sgd(changes):
    data, args = made_features(), flags(**changes)
    heads, losses = fitted(data, args)
    head = probe.linear_head(6, 4, 0)
    optimizer = torch.optim.SGD(head.parameters(), 0, args.momentum, weight_decay=args.weight_decay)
    for epoch, (order, loss) in enumerate(zip(probe.orders(50, args), losses, strict=True)):
        factor = 0.5 * (1 + np.cos(np.pi * epoch / 6)) if args.cos else 0.1 ** ((epoch >= 3) + (epoch >= 5))
        optimizer.param_groups[0]['lr'] = 0.1 * factor
        total = 0
        for batch in order.split(16):  # the last one is of two clips
            optimizer.zero_grad()
            mean = functional.cross_entropy(head(data.train[batch]), data.train_labels[batch])
            mean.backward()
            optimizer.step()
            total += mean.item() * len(batch)
        assert loss.item() == pytest.approx(total / 50, rel=1e-5)
    torch.testing.assert_close(heads.weight[0], head.weight.detach())
    torch.testing.assert_close(heads.bias[0], head.bias.detach())


@pytest.mark.parametrize('changes', [{}, {'cos': True, 'weight_decay': 0.1}])
def test_each_of_several_rates_is_the_run_with_it_alone(changes):
    data, rates = made_features(), [0.3, 0.01, 1.]
    together, losses = fitted(data, flags(lr=rates, **changes))
    for number, lr in enumerate(rates):
        alone, loss = fitted(data, flags(lr=[lr], **changes))
        torch.testing.assert_close(together.weight[number], alone.weight[0])
        torch.testing.assert_close(together.bias[number], alone.bias[0])
        torch.testing.assert_close(losses[:, number], loss[:, 0])


def test_nothing_waits_for_the_device_within_an_epoch():
    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            seen.append(function.name())
            return function(*arguments, **keywords or {})
    counts = []
    for batch_size in (5, 50):  # ten batches an epoch, or one
        seen, data, args = [], made_features(), flags(lr=[0.1, 0.2], batch_size=batch_size)
        with Operations():
            fitted(data, args)
        assert 'aten::index_select' in seen
        counts.append(sum(name in ('aten::_local_scalar_dense', 'aten::_to_copy', 'aten::nonzero') for name in seen))
    assert counts[0] == counts[1]


def test_orders_follow_seed_and_epoch_alone():
    made, again = (list(probe.orders(50, flags(epochs=epochs))) for epochs in (3, 2))
    assert all(order.equal(first) for order, first in zip(made, again, strict=False))
    for epoch, order in enumerate(made):
        assert order.equal(torch.randperm(50, generator=generator_at(0, epoch)))


def test_heads_start_as_in_the_release():
    head = probe.linear_head(2000, 100, seed=0)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not head.bias.any()
    heads = probe.Heads(head, 3)
    assert heads.weight.equal(head.weight.detach().expand(3, -1, -1))
    heads.weight.zero_()
    assert head.weight.any()


def test_top5_counts_the_five_best():
    five = probe.five_best([torch.tensor([6., 5, 4, 3, 2, 1])[None, :, None].repeat(1, 1, 4)])
    made = probe.last_epoch(five[0], torch.tensor([0, 4, 5, 1]), 6, seed=0)
    assert (made['accuracy'], made['top5_accuracy'], made['predictions'].tolist()) == (25, 75, [0] * 4)


def test_late_fusion_is_the_mean_of_the_logits():
    joint, bone, motion = (torch.tensor(logits)[None, :, None] for logits in ([3., 0, 2], [0., 3, 2], [0., 0, 1.5]))
    assert [probe.five_best([one])[0, 0, 0].item() for one in (joint, bone, motion)] == [0, 1, 2]
    assert probe.five_best([joint, bone, motion])[0, :, 0].tolist() == [2, 0, 1]  # of 1, 1 and 1.83
    assert probe.five_best([joint, bone * torch.tensor([[[1], [3], [1]]]), motion])[0, :, 0].tolist() == [1, 2, 0]


def test_the_first_best_look_is_kept():
    assert probe.best_seen({5: 2, 10: 3, 12: 3}, 4) == {'best_accuracy': 75, 'best_epoch': 10}


@pytest.fixture
def kept(tmp_path):
    """Files of features of all seven subsets, F_joint.npz and so on; the flags to use them."""
    for number, subset in enumerate(SUBSETS):
        about = json.dumps({'dataset': 'ntu60', 'protocol': 'cross_subject', 'modalities': subset})
        np.savez(tmp_path / f'F_{"+".join(subset)}.npz', about=about, **made_features(number)._asdict())
    return ['--device', 'cpu', '--batch-size', '16', '--epochs', '12', '--load-features']


def results(folder, *argv):
    action_recognition.main([*map(str, argv), '--results', str(folder / 'results.json')])
    return json.loads((folder / 'results.json').read_text())


def test_the_tables_rows_are_the_single_runs(kept, tmp_path, capsys):
    made = results(tmp_path, *kept, tmp_path / 'F.npz', '--all-modalities', '--lr', 0.1, 0.01)
    out = capsys.readouterr().out
    table = {row['modalities']: row for row in made['table']}
    assert list(table) == ['joint', 'bone', 'motion', 'joint+bone', 'joint+motion', 'bone+motion', 'joint+bone+motion',
                           '3s']
    for name in list(table)[:-1]:
        single = results(tmp_path, *kept, tmp_path / f'F_{name}.npz', '--lr', 0.1, 0.01)
        for number, rows in enumerate((table, {row['modalities']: row for row in made['by_lr'][1]['table']})):
            assert {key: rows[name][key] for key in SCORES} == {key: single['by_lr'][number][key] for key in SCORES}
        assert f'{name:20}{single["accuracy"]:10.2f}' in out
    assert made['accuracy'] == table['joint+bone+motion']['accuracy']
    assert made['predictions'] == single['predictions']
    assert made['lr'] == 0.1


def test_ensemble_is_the_mean_of_three_heads(kept, tmp_path):
    made = results(tmp_path, *kept, tmp_path / 'F.npz', '--ensemble', '--lr', 0.1)
    args = flags(epochs=12, schedule=[120, 140])
    data = [made_features(number) for number in range(3)]
    logits = sum(fitted(part, args, classes=60)[0](part.val) for part in data) / 3
    assert made['predictions'] == logits[0].argmax(0).tolist()
    assert [row['modalities'] for row in made['table']] == ['joint', 'bone', 'motion', '3s']
    assert made['accuracy'] == made['table'][-1]['accuracy'] not in {row['accuracy'] for row in made['table'][:-1]}
    two = results(tmp_path, *kept, tmp_path / 'F.npz', '--ensemble', '--modalities', 'motion', 'joint')
    assert [row['modalities'] for row in two['table']] == ['joint', 'motion', '2s']


def test_several_rates_each_have_a_result(kept, tmp_path, capsys):
    made = results(tmp_path, *kept, tmp_path / 'F_joint.npz', '--lr', 0.1, 0.001)
    out = capsys.readouterr().out
    assert [row['lr'] for row in made['by_lr']] == [0.1, 0.001]
    assert made['by_lr'][0]['accuracy'] == made['accuracy'] != made['by_lr'][1]['accuracy']
    assert f'{"lr 0.001":20}{made["by_lr"][1]["accuracy"]:10.2f}' in out
    assert 'to choose an lr by these numbers is to choose on the test part' in out
    for row in made['by_lr']:
        alone = results(tmp_path, *kept, tmp_path / 'F_joint.npz', '--lr', row['lr'])
        assert {key: alone[key] for key in SCORES} == {key: row[key] for key in SCORES}
        assert 'modalities ' not in capsys.readouterr().out  # one rate: the published lines, no table


def test_a_rate_that_diverges_is_a_mistake(kept, tmp_path):
    with pytest.raises(InputError, match=r'--lr 3e\+38: the loss is not finite after epoch 5'):
        results(tmp_path, *kept, tmp_path / 'F_joint.npz', '--lr', 0.1, 3e38)


@pytest.fixture
def setting(tmp_path, padded_arrays):
    """Flags for a tiny NTU-60 x-sub and a checkpoint of width 8 that was not trained."""
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=30, val=12)
    torch.manual_seed(0)
    model = UmURL(150, 192, 8)
    checkpoint.save(tmp_path / 'checkpoint.pth.tar', model, torch.optim.Adam(model.parameters()), 1, about=ABOUT)
    return ['--data-root', tmp_path / 'data', '--pretrained', tmp_path / 'checkpoint.pth.tar', '--device', 'cpu']


def test_recognition_end_to_end(setting, tmp_path, capsys):
    made = results(tmp_path, *setting, '--epochs', 42, '--batch-size', 8, '--lr', 0.3,
                   '--per-class', tmp_path / 'new/c.csv')
    out, (low, high) = capsys.readouterr().out, made['accuracy_interval']
    assert f'last epoch:  {made["accuracy"]:.2f} % (95 % interval {low:.2f} to {high:.2f})' in out
    assert f'best seen:   {made["best_accuracy"]:.2f} % (epoch {made["best_epoch"]}; ' in out
    assert made['accuracy'] > 60  # three classes, each with a pose of its own
    assert made['best_accuracy'] >= made['accuracy'] >= low
    assert made['accuracy'] == pytest.approx(100 * np.mean(np.equal(made['predictions'], made['labels'])))
    assert (made['args']['dataset'], made['args']['lr'], made['seed']) == ('ntu60', [0.3], 0)
    assert len(made['checkpoint_sha256']) == 64
    rows = list(csv.DictReader((tmp_path / 'new/c.csv').open()))
    assert sum(int(row['correct']) for row in rows) == round(made['accuracy'] * 12 / 100)


def test_transfer_to_another_data_set(setting, tmp_path, padded_arrays, capsys):
    """A checkpoint of one data set on the custom one, whose labels alone say how many classes there are."""
    padded_arrays(tmp_path / 'data/custom/split', train=30, val=12)
    made = results(tmp_path, *setting, '--finetune-dataset', 'custom', '--lr', 0.3, '--batch-size', 8,
                   '--save-features', tmp_path / 'F.npz')
    assert 'pre-trained on ntu60 cross_subject, joint+bone+motion, objective umurl\n' in capsys.readouterr().out
    assert made['pretrained_on'] == ABOUT
    assert len(made['class_accuracy']) == 3
    assert made['accuracy'] > 60
    assert results(tmp_path, '--load-features', tmp_path / 'F.npz', '--device', 'cpu')['pretrained_on'] == ABOUT


def test_a_checkpoint_that_says_nothing_of_itself(setting, tmp_path, capsys):
    saved = torch.load(tmp_path / 'checkpoint.pth.tar', weights_only=True)
    del saved['about']
    torch.save(saved, tmp_path / 'checkpoint.pth.tar')
    assert results(tmp_path, *setting, '--epochs', 1)['pretrained_on'] is None
    assert 'pre-trained on' not in capsys.readouterr().out


def test_one_process_fits_the_probe(setting, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(action_recognition, 'rank', lambda: 1)
    action_recognition.main([*map(str, setting), '--results', str(tmp_path / 'results.json')])
    assert not capsys.readouterr().out
    assert not (tmp_path / 'results.json').exists()


def test_defaults_are_those_of_the_task():
    finetune = ['--finetune', '--pretrained', 'c.pth.tar']
    alone, tuned = action_recognition.parse([]), action_recognition.parse(finetune)
    assert (alone.lr, alone.batch_size, alone.epochs, alone.schedule) == ([0.03], 512, 150, [120, 140])
    assert (tuned.lr, tuned.batch_size, tuned.epochs, tuned.schedule) == (0.01, 64, 80, [50, 70])
    given = ['--lr', '0.2', '--batch-size', '7', '--epochs', '9', '--schedule']
    alone, tuned = action_recognition.parse(given), action_recognition.parse([*finetune, *given])
    assert (alone.lr, alone.batch_size, alone.epochs, alone.schedule) == ([0.2], 7, 9, [])
    assert (tuned.lr, tuned.batch_size, tuned.epochs, tuned.schedule) == (0.2, 7, 9, [])


def test_finetune_is_another_task(setting, monkeypatch):
    seen = []
    monkeypatch.setattr(action_recognition.finetune, 'run', lambda args, device: seen.append((args.lr, device.type)))
    action_recognition.main([*map(str, setting), '--finetune'])
    assert seen == [(0.01, 'cpu')]


@pytest.mark.parametrize(('argv', 'message'), [
    (['--lr'], '--lr'),
    (['--lr', '-0.1'], '-0.1 is not a number from 0'),
    (['--lr', '0.1', 'nan'], 'nan is not a number from 0'),
    (['--lr', '0.1', '0.10'], '--lr has a value twice: 0.1 0.1'),
    (['--lr', '0.1', '0.2', '--finetune'], '--finetune takes one --lr'),
    (['--data-ratio', '0.1'], '--data-ratio goes with --finetune'),
    (['--ensemble', '--modalities', 'bone'], '--ensemble takes two or three modalities'),
    (['--ensemble', '--all-modalities'], '--all-modalities'),
    (['--all-modalities', '--modalities', 'bone'], '--all-modalities is of all of them'),
])
def test_a_mistake_is_one_line(setting, mistake, argv, message):
    assert message in mistake(action_recognition.main, [*setting, *argv])
