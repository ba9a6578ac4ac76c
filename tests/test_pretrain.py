"""The training script: what it writes, exact resuming, schedules, and its error messages."""

import json
import shlex

import pytest
import torch

import action_retrieval
import pretrain
from tools import checkpoint
from tools.common.cli import InputError
from tools.schedule import lr_factors
from tools.version import code_version


@pytest.fixture
def data(tmp_path, padded_arrays):
    """A data root with a tiny NTU-60 x-sub."""
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=10)
    return tmp_path / 'data'


@pytest.fixture
def narrow(data):
    """Flags of a run that is narrow and short."""
    return ['--data-root', data, '--hidden-size', 8, '--batch-size', 4, '--device', 'cpu']


@pytest.fixture
def train(narrow, tmp_path):
    """train(folder, *flags): run the script with `narrow`; the folder it wrote."""

    def run(folder, *flags):
        words = [*narrow, '--checkpoint-path', tmp_path / folder, *flags]
        pretrain.main(list(map(str, words)))
        return tmp_path / folder

    return run


def weights(folder, epoch):
    return torch.load(checkpoint.path_of(folder, epoch), weights_only=True)['state_dict']


def test_first_fiftieth_and_last_epoch_are_saved_in_the_official_format(train):
    folder = train('run', '--epochs', 52)
    assert sorted(path.name for path in folder.glob('*.tar*')) == [
        'checkpoint_0000.pth.tar',
        'checkpoint_0050.pth.tar',
        'checkpoint_0051.pth.tar',
        'checkpoint_last.pth.tar',
    ]
    saved = torch.load(folder / 'checkpoint_0051.pth.tar', weights_only=True)
    assert saved['epoch'] == 52
    assert len(saved['state_dict']) == 111
    assert all(key.startswith('module.') for key in saved['state_dict'])
    assert len(saved['optimizer']['state']) == 92


def test_keys_and_order_are_the_official_ones(train, reference):
    official = torch.load(reference / 'initial.pth.tar', weights_only=True)['state_dict']
    assert list(weights(train('run', '--epochs', 1), 0)) == list(official)


def test_resuming_is_exact(train):
    whole = weights(train('whole', '--epochs', 3), 2)
    train('halves', '--epochs', 2)
    halves = weights(train('halves', '--epochs', 3, '--resume', 'auto'), 2)
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


def test_resuming_a_run_of_earlier_draws_prints_a_line(train, capsys):
    path = checkpoint.path_of(train('run', '--epochs', 1), 0)
    saved = torch.load(path, weights_only=True)
    del saved['config']['draws_version']
    torch.save(saved, path)
    capsys.readouterr()
    train('next', '--epochs', 2, '--resume', path)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith('note: ')]
    assert notes == [
        'note: the version of the random draws was 1 until now, and is 2',
        'note: 10 training clips: fewer than 256 are too few to learn from',
    ]


def test_the_seed_decides(train):
    same, again, other = (
        weights(train(name, '--epochs', 1, '--seed', seed), 0)
        for name, seed in (('a', 1), ('b', 1), ('c', 2))
    )
    key = 'module.backbone.mm_fusion.t_fusion.0.weight'
    assert torch.equal(same[key], again[key])
    assert not torch.equal(same[key], other[key])


def test_an_official_checkpoint_can_be_resumed(train, reference, width):
    folder = train(
        'run',
        '--hidden-size',
        width,
        '--epochs',
        2,
        '--resume',
        reference / 'checkpoint_0000.pth.tar',
    )
    assert checkpoint.newest(folder) == checkpoint.path_of(folder, 1)


def test_the_log_has_the_command_and_a_line_per_epoch(train):
    folder = train('run', '--epochs', 2, '--lr', 1e-3, '--schedule', 1)
    first, *epochs = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert {'command', 'config', 'device', 'processes'} <= first.keys()
    assert first['config']['lr'] == 1e-3
    assert [line['epoch'] for line in epochs] == [0, 1]
    assert [line['lr'] for line in epochs] == pytest.approx([1e-3, 1e-4])
    assert {'total', 'intra', 'inter', 'reg', 'clips_per_second'} <= epochs[0].keys()
    assert list((folder / 'tensorboard').iterdir())


def test_training_lowers_the_loss(train):
    folder = train('run', '--epochs', 12, '--lr', 3e-3)
    losses = [
        json.loads(line)['total'] for line in (folder / 'log.jsonl').read_text().splitlines()[1:]
    ]
    assert min(losses[-3:]) < losses[0]


def test_bf16_trains_close_to_float32(train):
    logs = [
        json.loads(
            (train(name, '--epochs', 1, '--amp', name) / 'log.jsonl').read_text().splitlines()[1]
        )
        for name in ('off', 'bf16')
    ]
    assert logs[1]['total'] == pytest.approx(logs[0]['total'], rel=0.05)
    assert logs[1]['total'] != logs[0]['total']


def test_a_batch_larger_than_the_split_is_the_split(train, capsys):
    train('run', '--epochs', 1, '--batch-size', 512)
    said = capsys.readouterr().err
    assert 'the batch size is 10 (only 10 clips)' in said
    assert '10 training clips: fewer than 256 are too few to learn from' in said


@pytest.mark.parametrize(
    ('batch_size', 'advice'),
    [(8, '--hidden-size 128'), (512, '--hidden-size 128 --batch-size 128')],
)
def test_a_wide_encoder_on_a_cpu_gets_advice(train, capsys, batch_size, advice):
    train('run', '--hidden-size', 264, '--epochs', 1, '--batch-size', batch_size)
    assert f'note: no GPU is used; {advice} suits a CPU\n' in capsys.readouterr().err


def test_a_run_ends_with_its_checkpoint_and_the_command_that_evaluates_it(train, data, capsys):
    path = checkpoint.path_of(train('run', '--epochs', 2), 1)
    *lines, written, command = capsys.readouterr().out.splitlines()
    assert written == f'written: {path}; to evaluate it:'
    assert shlex.split(command)[:4] == ['python', 'action_retrieval.py', '--pretrained', str(path)]
    action_retrieval.main([*shlex.split(command)[2:], '--device', 'cpu'])
    (epoch_line,) = [line for line in lines if line.startswith('epoch 1: ')]
    shown = epoch_line.removeprefix('epoch 1: ').split('  ')
    names = [each.rpartition(' ')[0] for each in shown]
    assert names == ['total', 'intra', 'inter', 'reg', 'smallest std', 'clips/s']
    last = json.loads((path.parent / 'log.jsonl').read_text().splitlines()[-1])
    smallest = min(value for name, value in last.items() if name.startswith('std_'))
    assert f'smallest std {smallest:.4g}' in shown and 'grad_norm' in last


def test_checkpoints_hold_the_version_beside_the_config(train):
    saved = torch.load(checkpoint.path_of(train('run', '--epochs', 1), 0))
    assert saved['code'] == {'torch': str(torch.__version__), **code_version()}
    assert not saved['config'].keys() & saved['code'].keys()


def test_a_refusal_to_resume_names_the_flags_of_the_weights(train, data, mistake):
    path = checkpoint.path_of(train('run', '--epochs', 1), 0)
    flags = ['--data-root', data, '--resume', path, '--hidden-size', 8, '--epochs', 2]
    line = mistake(pretrain.main, [*flags, '--variance-weight', 25, '--intra-weight', 0.5])
    assert 'with --intra-weight 5, not 0.5 and --variance-weight 5, not 25:' in line


def test_help_names_flags_without_effect_in_one_line(capsys):
    with pytest.raises(SystemExit):
        pretrain.main(['--help'])
    lines = [line for line in capsys.readouterr().out.splitlines() if '--dist-url' in line]
    assert len(lines) == 1
    assert lines[0].startswith('flags of the official code that have no effect here: --workers')


def test_official_flags_without_effect_get_one_note(train, capsys):
    train('run', '--epochs', 1, '-j', 8, '--dist-url', 'env://')
    assert 'note: no effect here: --workers --dist-url\n' in capsys.readouterr().err
    train('run', '--epochs', 1)
    assert 'no effect' not in capsys.readouterr().err


def test_schedules():
    assert lr_factors(5, [2, 4], cos=False) == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert lr_factors(4, [], cos=True)[::2] == pytest.approx([1, 0.5])


@pytest.mark.parametrize(
    ('flags', 'terms'),
    [
        (['--objective', 'umurl'], (5, 5, 1)),
        (['--objective', 'no-intra'], (0, 5, 1)),
        (['--objective', 'no-inter'], (5, 0, 1)),
        (['--objective', 'baseline'], (5, 5, 1)),
        (['--objective', 'no-inter', '--intra-weight', 2, '--inter-weight', 3], (2, 3, 1)),
        (['--modalities', 'motion', 'joint'], (5, 5, 1)),
        (['--variance-weight', 0, '--covariance-weight', 0], (5, 5, 1)),
    ],
)
def test_objectives(train, flags, terms):
    folder = train('run', '--epochs', 2, *flags)
    line = json.loads((folder / 'log.jsonl').read_text().splitlines()[1])
    expected = sum(
        weight * line[term] for weight, term in zip(terms, ('intra', 'inter', 'reg'), strict=True)
    )
    assert line['total'] == pytest.approx(expected, rel=1e-4)
    assert (line['inter'] == 0) == ('baseline' in flags)
    assert (line['reg'] == 0) == ('--variance-weight' in flags)
    train('run', '--epochs', 3, '--resume', 'auto', *flags)


def test_a_checkpoint_says_what_it_is(train):
    folder = train(
        'run',
        '--epochs',
        1,
        '--objective',
        'no-inter',
        '--seed',
        4,
        '--modalities',
        'motion',
        'joint',
        'joint',
    )
    assert checkpoint.read(folder / 'checkpoint_0000.pth.tar')['config'] == {
        'recipe': 'published',
        'overrides': ['batch_size', 'epochs'],
        'crop': [0.1, 1],
        'crop_frames': 64,
        'shear': 1,
        'objective': 'no-inter',
        'modalities': ['joint', 'motion'],
        'dataset': 'ntu60',
        'protocol': 'cross_subject',
        'hidden_size': 8,
        'seed': 4,
        'draws_version': 2,
        'batch_size': 4,
        'epochs': 1,
        'lr': 5e-4,
        'schedule': [351],
        'cos': False,
        'weight_decay': 1e-5,
        'weights': {'intra': 5, 'inter': 0, 'variance': 5, 'covariance': 1},
        'data': None,
        'processes': 1,
        'device': 'cpu',
        'amp': 'off',
    }


def test_what_a_subset_does_not_use_keeps_its_start(train):
    before = weights(train('one', '--epochs', 1, '--modalities', 'bone'), 0)
    after = weights(train('three', '--epochs', 3, '--modalities', 'bone'), 2)
    changed = {
        key.split('.')[2]
        for key in before
        if key.startswith('module.backbone') and not torch.equal(before[key], after[key])
    }
    assert changed == {'b_emb', 'ma_encoder'}


@pytest.mark.parametrize('flags', [['--encoder-chunks', 2], ['--data-device', 'cpu']])
def test_to_fit_a_small_gpu_changes_nothing(train, flags):
    logs = [
        json.loads((train(name, '--epochs', 1, *more) / 'log.jsonl').read_text().splitlines()[1])
        for name, more in (('plain', []), ('other', flags))
    ]
    assert logs[1]['total'] == pytest.approx(logs[0]['total'], rel=1e-5)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--objective', 'simclr'], '--objective'),
        (['--intra-weight', '-1'], '--intra-weight'),
        (['--modalities'], '--modalities'),
        (['--encoder-chunks', '0'], '--encoder-chunks'),
        (
            ['--pre-dataset', 'ntu60', '--protocol', 'cross_setup'],
            'ntu60 has no protocol cross_setup',
        ),
        (['--pre-dataset', 'kinetics'], '--pre-dataset'),
        (['--protocol', 'cross_view'], 'xview is not there'),
        (['--data-root', '/nowhere'], '/nowhere'),
        (['--resume', '/no/such.pth.tar'], '/no/such.pth.tar: no such checkpoint'),
        (['--resume', __file__], 'is not a PyTorch checkpoint'),
        (['--batch-size', '0'], '--batch-size'),
        (['--device', 'tpu'], '--device tpu'),
        (['--no-such-flag'], '--no-such-flag'),
        (['--hidden-size', '33'], '33 is odd'),
        (['--batch-size', '1'], 'BatchNorm needs 2 clips'),
        (['--lr', '-1'], '-1'),
        (['--lr', 'nan'], 'not a number from 0'),
        (['--seed', '-1'], '--seed'),
        (['--checkpoint-path', __file__], __file__),
        (['--start-epoch', '3', '--epochs', '3'], '--start-epoch 3 is not below --epochs'),
    ],
)
def test_a_mistake_is_one_line(data, tmp_path, mistake, flags, message):
    assert message in mistake(
        pretrain.main, ['--data-root', data, '--checkpoint-path', tmp_path / 'run', *flags]
    )


@pytest.mark.parametrize(
    'flags', [['--objective', 'baseline'], ['--modalities', 'joint', 'bone'], ['--seed', 1]]
)
def test_a_run_of_another_configuration_is_not_resumed(train, data, mistake, flags):
    path = checkpoint.path_of(train('run', '--epochs', 1), 0)
    line = mistake(
        pretrain.main,
        ['--data-root', data, '--resume', path, '--hidden-size', 8, '--epochs', 2, *flags],
    )
    assert f'was trained with {flags[0]} ' in line
    assert f', not {flags[1]}' in line or f'not {flags[1:]}' in line


def test_another_width_than_the_checkpoint_is_a_mistake(train, data, mistake, reference):
    path = checkpoint.path_of(train('run', '--epochs', 1), 0)
    line = mistake(
        pretrain.main, ['--data-root', data, '--resume', path, '--hidden-size', 16, '--epochs', 2]
    )
    assert 'was trained with --hidden-size 8, not 16' in line
    official = ['--data-root', data, '--resume', reference / 'initial.pth.tar', '--hidden-size', 16]
    assert 'misshapen' in mistake(pretrain.main, official)


def test_an_empty_resume_is_none(train):
    folder = train(
        'run', '--epochs', 1, '--resume', '', '--finetune_skeleton_representation', 'graph-based'
    )
    assert checkpoint.path_of(folder, 0).is_file()


def test_a_finished_run_says_so(train, narrow, mistake, capsys):
    folder = train('run', '--epochs', 1)
    before = (folder / 'log.jsonl').read_text()
    train('run', '--epochs', 1, '--resume', 'auto')
    assert f'{checkpoint.path_of(folder, 0)}: finished already (1 epoch)' in capsys.readouterr().out
    assert (folder / 'log.jsonl').read_text() == before
    flags = [*narrow, '--checkpoint-path', folder, '--epochs', 1, '--resume', 'auto']
    line = mistake(pretrain.main, [*flags, '--lr', 1])
    assert 'was trained with --lr 0.0005, not 1.0' in line


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(train):
    folder = train('run', '--epochs', 1)
    before = weights(folder, 0)
    with pytest.raises(InputError, match=r'not finite since epoch \d+, step \d'):
        train('run', '--epochs', 60, '--lr', 1e30, '--resume', 'auto')
    assert checkpoint.read_furthest(folder)[0] == checkpoint.path_of(folder, 0)
    assert all(torch.equal(value, weights(folder, 0)[key]) for key, value in before.items())


def test_an_earlier_run_is_moved_aside_not_lost(train, capsys):
    folder = train('run', '--epochs', 3)
    before = weights(folder, 2)
    train('run', '--epochs', 2)
    assert 'the earlier run was moved to' in capsys.readouterr().err
    assert checkpoint.newest(folder) == checkpoint.path_of(folder, 1)
    assert all(
        torch.equal(value, before[key]) for key, value in weights(folder / 'earlier_1', 2).items()
    )
    assert (folder / 'earlier_1/log.jsonl').is_file()


@pytest.mark.parametrize('optimizer', [None, {'state': {}, 'param_groups': [{'params': [0]}]}])
def test_a_checkpoint_without_its_optimizer_is_not_resumed(train, narrow, mistake, optimizer):
    path = checkpoint.path_of(train('run', '--epochs', 1), 0)
    saved = torch.load(path, weights_only=True)
    torch.save(
        {'epoch': 1, 'state_dict': saved['state_dict']}
        | ({'optimizer': optimizer} if optimizer else {}),
        path,
    )
    flags = [*narrow, '--resume', path, '--epochs', 2]
    assert 'no Adam optimizer' in mistake(pretrain.main, flags)


def test_a_checkpoint_without_its_epoch_is_not_resumed(data, tmp_path, mistake, reference):
    torch.save(
        {'state_dict': torch.load(reference / 'initial.pth.tar')['state_dict']},
        tmp_path / 'c.pth.tar',
    )
    assert 'how many epochs' in mistake(
        pretrain.main, ['--data-root', data, '--resume', tmp_path / 'c.pth.tar']
    )


def test_weight_decay_and_kernel_are_this_runs(train):
    """Also when resuming from an official checkpoint; on a GPU a fused kernel needs its step counts
    there.
    """
    model = torch.nn.Linear(2, 2, device='meta')
    optimizer = torch.optim.Adam(model.parameters(), fused=False)
    saved = torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
    state = saved.state_dict() | {
        'state': {
            index: {
                'step': torch.tensor(3.0),
                'exp_avg': torch.ones(size),
                'exp_avg_sq': torch.ones(size),
            }
            for index, size in ((0, (2, 2)), (1, (2,)))
        }
    }
    checkpoint.load_optimizer(optimizer, {'optimizer': state}, 'file', 0.5)
    assert optimizer.param_groups[0]['weight_decay'] == 0.5
    assert {value['step'].device.type for value in optimizer.state.values()} == {'meta'}


def test_a_batch_is_shared_evenly(monkeypatch, capsys):
    monkeypatch.setattr(pretrain, 'world_size', lambda: 3)
    assert pretrain.batch_size_per_process(512, 40000) == 170
    assert 'the batch size is 510 (shared by 3 processes)' in capsys.readouterr().err
    assert pretrain.batch_size_per_process(512, 10) == 170  # an epoch is one incomplete batch
    assert 'the batch size is 10 (only 10 clips)' in capsys.readouterr().err


def test_resuming_keeps_each_epoch_once_in_the_log(train):
    folder = train('run', '--epochs', 3)
    train('run', '--epochs', 4, '--resume', checkpoint.path_of(folder, 0))
    lines = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert [line.get('epoch') for line in lines] == [None, 0, None, 1, 2, 3]


def test_a_recipe_sets_what_flags_leave_open(train, narrow, mistake):
    folder = train(
        'run', '--recipe', 'small-data', '--epochs', 1, '--lr', 1e-3, '--inter-weight', 3
    )
    config = checkpoint.read(checkpoint.path_of(folder, 0))['config']
    assert config['overrides'] == ['inter_weight', 'lr', 'batch_size', 'epochs']
    expected = {
        'recipe': 'small-data',
        'crop': [0.5, 1],
        'crop_frames': 16,
        'shear': 1,
        'lr': 1e-3,
        'schedule': [81],
        'weights': {'intra': 25, 'inter': 3, 'variance': 25, 'covariance': 1},
    }
    assert {name: config[name] for name in expected} == expected
    flags = [*narrow, '--checkpoint-path', folder, '--resume', 'auto']
    line = mistake(pretrain.main, [*flags, '--recipe', 'published', '--epochs', 2])
    assert 'was trained with --recipe small-data, not published' in line
    line = mistake(
        pretrain.main, [*flags, '--recipe', 'small-data', '--inter-weight', 3, '--shear', 0.5]
    )
    assert 'was trained with --shear 1.0, not 0.5' in line


def test_each_value_of_a_recipe_reaches_the_training(train):
    first_line = {}
    for name, flags in {
        'published': [],
        'crop': ['--crop', 1, 1],
        'frames': ['--crop-frames', 5],
        'shear': ['--shear', 0],
        'small': ['--recipe', 'small-data'],
    }.items():
        log = train(name, '--epochs', 1, *flags) / 'log.jsonl'
        first_line[name] = json.loads(log.read_text().splitlines()[1])['total']
    assert len(set(first_line.values())) == 5


def test_crops_have_an_order(mistake):
    assert '--crop 0.9 0.1: shares of a clip' in mistake(pretrain.main, ['--crop', 0.9, 0.1])


@pytest.mark.parametrize(
    'monitor',
    [
        {'clips': 4},
        {'sums': [1.0], 'skipped': 0, 'clips': 4, 'seconds': 1.0},
        {'sums': 'text', 'skipped': 0, 'clips': 4, 'seconds': 1.0},
    ],
)
def test_an_unfinished_epoch_without_its_sums_is_refused(train, narrow, mistake, monitor):
    path = checkpoint.path_of(train('run', '--epochs', 2), 1)
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {'epoch': 1, 'step': 1, 'monitor': monitor}, path)
    flags = [*narrow, '--resume', path, '--epochs', 3]
    assert 'unfinished epoch' in mistake(pretrain.main, flags)


def test_a_step_that_the_epoch_does_not_have_is_refused(train, narrow, mistake):
    path = checkpoint.path_of(train('run', '--epochs', 2), 1)
    torch.save(torch.load(path, weights_only=True) | {'epoch': 1, 'step': 9}, path)
    flags = [*narrow, '--resume', path, '--epochs', 3]
    assert 'is at step 9 of an epoch, which has 3 here' in mistake(pretrain.main, flags)
