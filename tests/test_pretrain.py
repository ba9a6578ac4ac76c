"""The training script: what it writes, exact resuming, schedules, and what it says to a mistake."""
import json
from argparse import Namespace

import pytest
import torch

import pretrain
from tools import checkpoint
from tools.schedule import learning_rate


@pytest.fixture
def data(tmp_path, padded_arrays):
    """A data root with a tiny NTU-60 x-sub."""
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=10)
    return tmp_path / 'data'


@pytest.fixture
def train(data, tmp_path):
    """train(folder, *flags): run the script narrow and short; the folder it wrote."""
    def run(folder, *flags):
        pretrain.main(['--data-root', str(data), '--checkpoint-path', str(tmp_path / folder), '--hidden-size', '8',
                       '--batch-size', '4', '--device', 'cpu', *map(str, flags)])
        return tmp_path / folder
    return run


def weights(folder, epoch):
    return torch.load(checkpoint.path_of(folder, epoch), weights_only=True)['state_dict']


def test_first_fiftieth_and_last_epoch_are_saved_in_the_format_of_the_release(train):
    folder = train('run', '--epochs', 52)
    assert sorted(path.name for path in folder.glob('*.tar*')) == [
        'checkpoint_0000.pth.tar', 'checkpoint_0050.pth.tar', 'checkpoint_0051.pth.tar']
    saved = torch.load(folder / 'checkpoint_0051.pth.tar', weights_only=True)
    assert saved['epoch'] == 52
    assert len(saved['state_dict']) == 111
    assert all(key.startswith('module.') for key in saved['state_dict'])
    assert len(saved['optimizer']['state']) == 92


def test_keys_and_order_are_those_of_the_release(train, reference):
    released = torch.load(reference / 'initial.pth.tar', weights_only=True)['state_dict']
    assert list(weights(train('run', '--epochs', 1), 0)) == list(released)


def test_resuming_is_exact(train):
    whole = weights(train('whole', '--epochs', 3), 2)
    train('halves', '--epochs', 2)
    halves = weights(train('halves', '--epochs', 3, '--resume', 'auto'), 2)
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


def test_the_seed_decides(train):
    same, again, other = (weights(train(name, '--epochs', 1, '--seed', seed), 0)
                          for name, seed in (('a', 1), ('b', 1), ('c', 2)))
    key = 'module.backbone.mm_fusion.t_fusion.0.weight'
    assert torch.equal(same[key], again[key])
    assert not torch.equal(same[key], other[key])


def test_a_released_checkpoint_is_gone_on_with(train, reference):
    folder = train('run', '--hidden-size', 32, '--epochs', 2, '--resume', reference / 'checkpoint_0000.pth.tar')
    assert [path.name for path in folder.glob('*.tar')] == ['checkpoint_0001.pth.tar']


def test_the_log_has_the_command_and_a_line_per_epoch(train):
    folder = train('run', '--epochs', 2, '--lr', 1e-3, '--schedule', 1)
    first, *epochs = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert {'command', 'args', 'device', 'processes'} <= first.keys()
    assert [line['epoch'] for line in epochs] == [0, 1]
    assert [line['lr'] for line in epochs] == pytest.approx([1e-3, 1e-4])
    assert {'total', 'intra', 'inter', 'reg', 'clips_per_second'} <= epochs[0].keys()
    assert list((folder / 'tensorboard').iterdir())


def test_training_lowers_the_loss(train):
    folder = train('run', '--epochs', 12, '--lr', 3e-3)
    losses = [json.loads(line)['total'] for line in (folder / 'log.jsonl').read_text().splitlines()[1:]]
    assert min(losses[-3:]) < losses[0]


def test_bf16_trains_close_to_float32(train):
    logs = [json.loads((train(name, '--epochs', 1, '--amp', name) / 'log.jsonl').read_text().splitlines()[1])
            for name in ('off', 'bf16')]
    assert logs[1]['total'] == pytest.approx(logs[0]['total'], rel=0.02)
    assert logs[1]['total'] != logs[0]['total']


def test_a_batch_larger_than_the_split_is_the_split(train, capsys):
    train('run', '--epochs', 1, '--batch-size', 512)
    assert 'only 10 clips, so the batch size is 10' in capsys.readouterr().err


def test_flags_without_effect_are_accepted_and_said(train, capsys):
    train('run', '--epochs', 1, '-j', 8, '--dist-url', 'env://')
    err = capsys.readouterr().err
    assert '--workers has no effect' in err
    assert '--dist-url has no effect' in err
    assert '--momentum' not in err


def test_schedules():
    steps = Namespace(lr=1., cos=False, schedule=[2, 4])
    assert [learning_rate(steps, epoch) for epoch in range(5)] == pytest.approx([1, 1, .1, .1, .01])
    cosine = Namespace(lr=1., cos=True, epochs=4)
    assert [learning_rate(cosine, epoch) for epoch in (0, 2)] == pytest.approx([1, .5])


@pytest.mark.parametrize(('flags', 'message'), [
    (['--pre-dataset', 'ntu60', '--protocol', 'cross_setup'], 'ntu60 has no protocol cross_setup'),
    (['--pre-dataset', 'kinetics'], '--pre-dataset'),
    (['--protocol', 'cross_view'], 'xview is not there'),
    (['--data-root', '/nowhere'], '/nowhere'),
    (['--resume', '/no/such.pth.tar'], '/no/such.pth.tar: no such checkpoint'),
    (['--resume', __file__], 'is not a PyTorch checkpoint'),
    (['--batch-size', '0'], '--batch-size'),
    (['--device', 'tpu'], '--device tpu'),
    (['--no-such-flag'], '--no-such-flag'),
])
def test_a_mistake_is_one_line(data, tmp_path, mistake, flags, message):
    assert message in mistake(pretrain.main, ['--data-root', data, '--checkpoint-path', tmp_path / 'run', *flags])


def test_another_width_than_the_checkpoint_is_a_mistake(train, data, mistake):
    path = checkpoint.path_of(train('run', '--epochs', 1), 0)
    line = mistake(pretrain.main, ['--data-root', data, '--resume', path, '--hidden-size', 16, '--epochs', 2])
    assert 'misshapen' in line


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(train):
    folder = train('run', '--epochs', 1)
    before = weights(folder, 0)
    with pytest.raises(SystemExit, match='not finite'):
        train('run', '--epochs', 60, '--lr', 1e30, '--resume', 'auto')
    assert all(torch.equal(value, weights(folder, 0)[key]) for key, value in before.items())
