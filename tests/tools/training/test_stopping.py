"""Training runs that are stopped: they lose at most a step, and end in the same bits as a run that
nobody stopped.
"""

import json
import multiprocessing
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

import pretrain
from tools import checkpoint
from tools.common.cli import InputError
from tools.training import stopping
from tools.training.state import RunCheckpoints, TrainState
from tools.training.stopping import StopSignals
from tools.training.watch import Watch

ROOT = Path(__file__).resolve().parents[3]
FLAGS = [
    '--hidden-size',
    '8',
    '--batch-size',
    '4',
    '--device',
    'cpu',
    '--epochs',
    '4',
    '--resume',
    'auto',
]


@pytest.fixture(autouse=True)
def handlers():
    """Signal handlers as they were before, for the tests that train in this process."""
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)


@pytest.fixture
def exits(monkeypatch):
    """The exit codes with which this process would have ended at once: a queue."""
    codes = queue.Queue()
    monkeypatch.setattr(os, '_exit', codes.put)
    return codes


@pytest.fixture
def data(tmp_path, padded_arrays):
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=20)
    return tmp_path / 'data'


@pytest.fixture
def train(data, tmp_path):
    """train(folder, *flags): run the script in this process; the folder it wrote."""

    def run(folder, *flags):
        pretrain.main(
            [
                '--data-root',
                str(data),
                '--checkpoint-path',
                str(tmp_path / folder),
                *FLAGS,
                *map(str, flags),
            ]
        )
        return tmp_path / folder

    return run


def log_lines(folder):
    """{epoch: its line, without the speed}, from log.jsonl; each epoch must be there once."""
    lines = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    lines = [line for line in lines if 'epoch' in line]
    assert [line['epoch'] for line in lines] == list(range(len(lines)))
    return [
        {name: value for name, value in line.items() if name != 'clips_per_second'}
        for line in lines
    ]


def board_steps(folder):
    events = EventAccumulator(str(folder / 'tensorboard')).Reload()
    return [event.step for event in events.Scalars('total')]


def same_end(one, other, epochs=4):
    """The same weights, optimizer and log, to the bit, and no gap or repeat in the logs."""
    ends = [
        torch.load(checkpoint.path_of(folder, epochs - 1), weights_only=True)
        for folder in (one, other)
    ]
    assert all(
        torch.equal(value, ends[1]['state_dict'][key])
        for key, value in ends[0]['state_dict'].items()
    )
    assert all(
        torch.equal(value, ends[1]['optimizer']['state'][index][name])
        for index, values in ends[0]['optimizer']['state'].items()
        for name, value in values.items()
    )
    assert log_lines(one) == log_lines(other)
    assert board_steps(one) == board_steps(other) == list(range(epochs))


def stop_after(monkeypatch, steps, number):
    """Let this process receive a signal after so many steps."""
    original, count = stopping.StopSignals.agreed, iter(range(1, 10**6))

    def agreed(self, now=False):
        if next(count) == steps:
            signal.raise_signal(number)
        return original(self, now)

    monkeypatch.setattr(stopping.StopSignals, 'agreed', agreed)


@pytest.mark.parametrize(
    ('number', 'steps'),
    [(signal.SIGTERM, 1), (signal.SIGUSR1, 7), (signal.SIGINT, 10), (signal.SIGTERM, 13)],
)
def test_a_signal_saves_and_the_run_continues_to_the_same_end(
    train, monkeypatch, capsys, number, steps
):
    whole = train('whole')
    with monkeypatch.context() as patch:
        stop_after(patch, steps, number)
        with pytest.raises(SystemExit) as stop:
            train('stopped')
    assert stop.value.code == 128 + number
    saved = torch.load(whole.with_name('stopped') / checkpoint.LAST, weights_only=True)
    assert (saved['epoch'], saved['step']) == divmod(steps, 5)
    capsys.readouterr()
    same_end(whole, train('stopped'))
    assert f'at epoch {steps // 5}' in capsys.readouterr().out


@pytest.mark.parametrize('steps', [1, 100], ids=['stopped', 'finished'])
def test_after_a_run_signals_do_what_they_did_before(train, monkeypatch, steps):
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    stop_after(monkeypatch, steps, signal.SIGINT)
    with suppress(SystemExit):
        train('run', '--epochs', 1)
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_three_stops_and_a_finished_run(train, monkeypatch, capsys):
    whole = train('whole')
    for steps in (3, 4, 5):
        with monkeypatch.context() as patch:
            stop_after(patch, steps, signal.SIGUSR1)
            with pytest.raises(SystemExit):
                train('stopped')
    stopped = train('stopped')
    same_end(whole, stopped)
    assert 'finished already' not in capsys.readouterr().out
    train('stopped')
    assert 'finished already (4 epochs)' in capsys.readouterr().out


def test_a_checkpoint_by_the_clock(train, monkeypatch):
    saves, original = [], TrainState.save

    def recording(state, path, config):
        saves.append((path.name, state.epoch, state.step))
        original(state, path, config)

    monkeypatch.setattr(TrainState, 'save', recording)
    train('run', '--save-minutes', 0, '--epochs', 2, '--save-every', 1)
    last, kept = checkpoint.LAST, 'checkpoint_000{}.pth.tar'
    assert saves == [
        *((last, 0, step) for step in (1, 2, 3, 4)),
        (kept.format(0), 1, 0),
        (last, 1, 0),
        *((last, 1, step) for step in (1, 2, 3, 4)),
        (kept.format(1), 2, 0),
        (last, 2, 0),
    ]


def test_a_second_signal_leaves_at_once(exits, capsys):
    stop = StopSignals(torch.device('cpu'))
    assert stop.agreed() == 0
    signal.raise_signal(signal.SIGTERM)
    assert stop.agreed() == signal.SIGTERM
    signal.raise_signal(signal.SIGINT)
    assert exits.get(timeout=60) == 128 + signal.SIGINT
    first, second = capsys.readouterr().err.split('\n\n')
    assert first.startswith('\nSIGTERM: stopping after this step; another signal after 2 s')
    assert second == 'SIGINT: ended; --resume auto continues from the last checkpoint\n'


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_a_signal_to_a_forked_child_is_not_ours(capsys):
    stop = StopSignals(torch.device('cpu'))
    context = multiprocessing.get_context('fork')
    child = context.Process(target=signal.raise_signal, args=[signal.SIGTERM])
    child.start()
    child.join()
    stop.restore_handlers()
    assert (stop.number, capsys.readouterr().err) == (0, '')


def test_the_same_signal_may_be_passed_on(monkeypatch, exits, capsys):
    """torchrun sends its processes the Ctrl-C that the terminal sent them already."""
    monkeypatch.setattr(stopping, 'PASSED_ON', float('inf'))
    stop = StopSignals(torch.device('cpu'))
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    stop.restore_handlers()
    assert (stop.agreed(), exits.qsize()) == (signal.SIGINT, 0)
    assert capsys.readouterr().err.count('SIGINT') == 1
    monkeypatch.setattr(stopping, 'PASSED_ON', 0.0)
    StopSignals(torch.device('cpu'))
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert exits.get(timeout=60) == 128 + signal.SIGINT


def test_signals_are_answered_during_a_backward_pass(exits, capsys):
    """As there, Python runs no handler while torch waits for what a thread puts into a store."""
    StopSignals(torch.device('cpu'))
    store = dist.HashStore()

    def press_twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # either may arrive first
        store.set('exit code', str(exits.get(timeout=60)))

    threading.Timer(0.5, press_twice).start()
    assert int(store.get('exit code')) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert ': stopping after this step' in capsys.readouterr().err


def test_only_the_first_process_answers(monkeypatch, exits, capsys):
    monkeypatch.setattr(stopping, 'rank', lambda: 1)
    StopSignals(torch.device('cpu'))
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert exits.get(timeout=60) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == ''


def test_a_problem_comes_before_a_signal(capsys):
    stop = StopSignals(torch.device('cpu'))
    signal.raise_signal(signal.SIGTERM)
    stop.problem = 'the loss is not finite'
    assert stop.agreed() == stopping.PROBLEM
    with pytest.raises(InputError, match='the loss is not finite'):
        stop.leave()
    stop.problem = ''  # as in a process that did not find it
    with pytest.raises(SystemExit) as left:
        stop.leave()
    assert left.value.code == 2
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(('freq', 'looks'), [(1, [1, 3, 5, 6]), (2, [2, 4, 6]), (4, [4, 6])])
def test_the_loss_is_read_every_few_seconds(monkeypatch, freq, looks):
    """A step takes a second here, and the sixth ends the epoch."""
    seen, state = [], SimpleNamespace(step=0, epoch=0)
    monitor = SimpleNamespace(
        problem=lambda: '', means=lambda: seen.append(state.step) or {'total': 1.0}
    )
    state.monitor = monitor
    monkeypatch.setattr(time, 'monotonic', lambda: 100.0 + state.step)
    checkpoints = SimpleNamespace(save_last=lambda state, now: None)
    after_step = Watch(
        state, 6, StopSignals(torch.device('cpu')), checkpoints, tqdm(disable=True), freq
    )
    for step in range(1, 7):
        state.step = step
        assert after_step() == 0
    assert seen == looks


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    saved = []
    state = SimpleNamespace(
        monitor=SimpleNamespace(problem=lambda: 'not finite'),
        save=lambda path, config: saved.append(path.name),
    )
    checkpoints = RunCheckpoints(tmp_path, None, 1, 0)
    checkpoints.save_last(state, now=True)
    assert saved == []
    state.monitor.problem = lambda: ''
    checkpoints.save_last(state, now=False)
    assert saved == [checkpoint.LAST]


def test_a_folder_of_a_live_run_is_refused(train, data, tmp_path, mistake):
    folder = train('run', '--epochs', 1)
    before = sorted(path.name for path in folder.iterdir())
    with pretrain.folder_lock([folder], 'training'):
        line = mistake(
            pretrain.main,
            ['--data-root', data, '--checkpoint-path', folder, *FLAGS, '--resume', 'none'],
        )
    assert 'another run is training there' in line
    assert sorted(path.name for path in folder.iterdir()) == before


# Whole processes, some under torchrun


def command(data, folder, processes, *flags, script='pretrain.py'):
    launcher = (
        ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
        if processes > 1
        else []
    )
    return [
        sys.executable,
        *launcher,
        str(ROOT / script),
        '--data-root',
        str(data),
        '--checkpoint-path',
        str(folder),
        *FLAGS,
        *flags,
    ]


def environment(**more):
    signals = 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'  # what script_*.sh tell torchrun to pass on
    return os.environ | {'OMP_NUM_THREADS': '1', 'PET_SIGNALS_TO_HANDLE': signals} | more


def wait_for_steps(process, folder, seconds=120):
    """Wait until the run has saved a first step (--save-minutes 0)."""
    until = time.monotonic() + seconds
    while (
        not (folder / checkpoint.LAST).is_file()
        and process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.02)


def test_under_torchrun_a_signal_reaches_all_processes(data, tmp_path):
    flags = ['--save-minutes', '0', '--epochs', '300']
    run = subprocess.Popen(
        command(data, tmp_path / 'run', 2, *flags),
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_steps(run, tmp_path / 'run')
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=120)
    assert 'stopped by SIGTERM' in out, err
    assert run.returncode != 0
    path, saved = checkpoint.read_furthest(tmp_path / 'run')
    assert path.name == checkpoint.LAST
    done = subprocess.run(
        command(data, tmp_path / 'run', 2, *flags, '--epochs', str(saved['epoch'] + 1)),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(log_lines(tmp_path / 'run')) == saved['epoch'] + 1


def test_under_torchrun_a_loss_that_is_not_finite_ends_all_processes_with_one_line(data, tmp_path):
    done = subprocess.run(
        command(data, tmp_path / 'run', 2, '--lr', '1e30', '--epochs', '60'),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1, done.stderr
    assert 'not finite since epoch' in errors[0]
    assert 'Signal' not in done.stderr  # no process had to be killed


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_runs_stopped_at_random_moments(tmp_path, padded_arrays, processes):
    """15 runs of some 20 s: 5 each of KILL, TERM and USR1, 3 of each 5 with slow saves. Takes about
    10 minutes.
    """
    data, rng = tmp_path / 'data', random.Random(processes)
    padded_arrays(data / 'NTU-RGB-D-60-AGCN/xsub', train=300)
    flags = [
        '--hidden-size',
        '32',
        '--batch-size',
        '20',
        '--epochs',
        '16',
        '--save-minutes',
        '0.02',
    ]
    started = time.monotonic()
    subprocess.run(
        command(data, tmp_path / 'whole', processes, *flags),
        env=environment(),
        check=True,
        capture_output=True,
        timeout=600,
    )
    undisturbed = time.monotonic() - started
    for index in range(15):
        folder, number = (
            tmp_path / f'run{index}',
            (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)[index % 3],
        )
        script = 'tests/slow_save_worker.py' if index < 9 else 'pretrain.py'
        run = subprocess.Popen(
            command(data, folder, processes, *flags, script=script),
            env=environment(),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for_steps(run, folder)
        time.sleep(rng.uniform(0, 0.4 * undisturbed))
        if number == signal.SIGKILL:
            os.killpg(run.pid, number)
        else:
            run.send_signal(number)
        out, _ = run.communicate(timeout=120)
        saved = checkpoint.read_furthest(folder)[1]
        print(
            f'run {index}: {number.name}, exit code {run.returncode}, epoch {saved["epoch"]} step '
            f'{saved["step"]}'
        )
        assert number == signal.SIGKILL or f'stopped by {number.name}' in out or 'epoch 15' in out
        if processes == 1 and number != signal.SIGKILL and 'stopped by' in out:
            assert run.returncode == 128 + number
        done = subprocess.run(
            command(data, folder, processes, *flags),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        same_end(tmp_path / 'whole', folder, 16)
