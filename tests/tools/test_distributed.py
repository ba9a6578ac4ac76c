"""Several processes compute what one would."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import pretrain
from tools import distributed
from tools.common.cli import InputError

WORKER = Path(__file__).with_name('gather_worker.py')
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(('chunks', 'traced'), [(1, 0), (3, int(torch.__version__ >= '2.13'))])
def test_two_processes_train_as_one(tmp_path, chunks, traced):
    torchrun(WORKER, tmp_path / 'two.pt', chunks, traced)
    spec = importlib.util.spec_from_file_location('gather_worker', WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    two, one = torch.load(tmp_path / 'two.pt', weights_only=True), worker.train()
    assert len(one) == 4
    for mine, theirs in zip(two, one, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_the_number_of_processes_may_change(tmp_path, padded_arrays):
    """One process, two, one again: the losses of a run in one process. The last batch of each epoch
    has 2 clips. Where a gradient is near 0, Adam's first steps make rounding as large as --lr.
    """
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=10)
    flags = [
        '--lr',
        1e-4,
        '--data-root',
        tmp_path / 'data',
        '--hidden-size',
        8,
        '--batch-size',
        4,
        '--device',
        'cpu',
    ]

    def arguments(name, epochs, *more):
        return list(
            map(str, [*flags, '--checkpoint-path', tmp_path / name, '--epochs', epochs, *more])
        )

    pretrain.main(arguments('one', 3))
    pretrain.main(arguments('mixed', 1))
    torchrun('pretrain.py', *arguments('mixed', 2, '--resume', 'auto'))
    pretrain.main(arguments('mixed', 3, '--resume', 'auto'))
    one, mixed = (
        [json.loads(line) for line in (tmp_path / name / 'log.jsonl').read_text().splitlines()]
        for name in ('one', 'mixed')
    )
    assert [line.get('processes') for line in mixed] == [1, None, 2, None, 1, None]
    totals = [[line['total'] for line in lines if 'total' in line] for lines in (one, mixed)]
    assert totals[1] == pytest.approx(totals[0], rel=2e-5)


def torchrun(*command):
    """Run a Python file in two processes."""
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    subprocess.run([*launcher, *map(str, command)], check=True, cwd=ROOT, env=environment)


def test_without_a_group_gather_changes_nothing():
    projections = (torch.ones(2, 3),) * 6
    assert distributed.gather(projections) is projections
    assert (distributed.rank(), distributed.world_size()) == (0, 1)


@pytest.fixture
def environment(monkeypatch):
    """environment(**variables): these launcher variables and no others."""

    def replace(**variables):
        for name in list(os.environ):
            if name.startswith(('SLURM_', 'OMPI_')) or name in (
                'RANK',
                'WORLD_SIZE',
                'LOCAL_RANK',
                'MASTER_ADDR',
                'MASTER_PORT',
            ):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return replace


MPIRUN = {
    'OMPI_COMM_WORLD_RANK': '3',
    'OMPI_COMM_WORLD_SIZE': '4',
    'OMPI_COMM_WORLD_LOCAL_RANK': '1',
    'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
}
SRUN = {'SLURM_PROCID': '3', 'SLURM_STEP_NUM_TASKS': '4', 'SLURM_LOCALID': '1'}


@pytest.mark.parametrize(
    ('variables', 'local_rank'),
    [
        ({'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': '1'}, '1'),  # torchrun
        ({'RANK': '3', 'WORLD_SIZE': '4'}, '0'),  # Kubernetes: a machine for each process
        (MPIRUN, '1'),
        (SRUN, '1'),
        (SRUN | {'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': '0'}, '0'),  # srun torchrun
        (SRUN | {'SLURM_STEP_NUM_TASKS': '2'} | MPIRUN, '1'),  # mpirun in a SLURM job
    ],
)
def test_the_variables_of_launchers(environment, variables, local_rank):
    environment(**variables)
    expected = {'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': local_rank}
    assert distributed.launcher_environment() == expected


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        (SRUN, '4 SLURM tasks without torchrun: start with script_pretrain_slurm.sh'),
        (SRUN | {'MASTER_ADDR': 'node7'}, 'start with script_pretrain_slurm.sh'),
        ({'RANK': '1', 'WORLD_SIZE': '2'}, '2 processes, but MASTER_ADDR is not set: set it to'),
        (MPIRUN, '4 processes, but MASTER_ADDR is not set: set it to'),
    ],
)
def test_processes_that_cannot_meet_are_refused(environment, tmp_path, mistake, variables, message):
    environment(**variables)
    data = tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub'
    data.mkdir(parents=True)
    flags = ['--data-root', tmp_path / 'data', '--checkpoint-path', tmp_path / 'run']
    assert message in mistake(pretrain.main, flags)


@pytest.mark.parametrize(
    'variables',
    [
        # Kubernetes: two machines. mpirun: two processes on this one, where no address is needed
        {'RANK': '{}', 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1'},
        {name: {'3': '{}', '1': '{}'}.get(value, '2') for name, value in MPIRUN.items()},
    ],
)
def test_two_processes_of_another_launcher_form_a_group(tmp_path, variables):
    port = free_port()
    processes = []
    for rank in range(2):
        environment = os.environ | {name: each.format(rank) for name, each in variables.items()}
        environment |= {'MASTER_PORT': port, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
        worker = [sys.executable, WORKER, tmp_path / 'two.pt']
        processes.append(subprocess.Popen(worker, cwd=ROOT, env=environment))
    assert [process.wait(120) for process in processes] == [0, 0]
    assert (tmp_path / 'two.pt').is_file()


def test_a_process_says_that_it_waits(environment, monkeypatch, capsys):
    """A line after 10 s, then every 60 s: here the clock is a thousand times as fast."""
    pauses = []

    class Event(threading.Event):
        def wait(self, pause=None):
            if pause is None:  # threading's own
                return super().wait()
            pauses.append(pause)
            return super().wait(pause / 1000)

    monkeypatch.setattr(distributed.threading, 'Event', Event)
    with distributed.waiting_note('2 processes'):
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    assert len(said) >= 2
    assert set(said) == {'note: still waiting for 2 processes'}
    assert pauses[0] == 10
    assert set(pauses[1:]) == {60}


def test_processes_that_never_meet_are_one_line(environment, monkeypatch):
    environment(
        RANK='1', WORLD_SIZE='2', LOCAL_RANK='1', MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port()
    )

    def fail(backend):
        raise torch.distributed.DistStoreError('Timed out after 301 seconds\nand a stack')

    monkeypatch.setattr(distributed.dist, 'init_process_group', fail)
    with (
        pytest.raises(InputError, match=r'do not meet at 127.0.0.1:\d+: Timed out .* seconds$'),
        distributed.process_group('cpu'),
    ):
        pass


@pytest.mark.parametrize(
    ('uuids', 'message'),
    [
        (['a', 'b', 'c'], None),
        (['a', 'b', 'a'], '2 processes share one GPU .*, a.: start one process for each GPU'),
        ([None, None, None], None),
    ],
)  # older torch does not say
def test_two_processes_on_one_gpu_are_noticed(monkeypatch, uuids, message):
    store = torch.distributed.HashStore()
    shown = iter(SimpleNamespace(uuid=uuid) if uuid else SimpleNamespace() for uuid in uuids)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: next(shown))
    for rank in range(3):  # one after another, although each waits for the others in truth
        with pytest.raises(InputError, match=message) if message and rank == 2 else nullcontext():
            distributed.check_own_gpu(
                store, rank, 3 if rank == 2 else rank + 1, torch.device('cuda', 0)
            )


def test_a_gpu_joins_the_group_with_its_device(environment, monkeypatch):
    environment(
        RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port()
    )
    gpu, joined = torch.device('cuda', 0), {}
    monkeypatch.setattr(distributed, 'select', lambda name: gpu)
    monkeypatch.setattr(
        torch.cuda, 'get_device_properties', lambda device: SimpleNamespace(uuid='a')
    )
    monkeypatch.setattr(
        distributed.dist,
        'init_process_group',
        lambda backend, **more: joined.update(more, to=backend),
    )
    for name in ('barrier', 'destroy_process_group'):
        monkeypatch.setattr(distributed.dist, name, lambda: None)
    with distributed.process_group('cuda') as device:
        assert device == joined['device_id'] == gpu
    assert (joined['to'], joined['rank'], joined['world_size']) == ('nccl', 0, 1)


@pytest.mark.parametrize(
    'variables',
    [
        {},
        {'SLURM_PROCID': '0', 'SLURM_NTASKS': '8', 'SLURM_LOCALID': '0'},  # in a job, without srun
        SRUN | {'SLURM_STEP_NUM_TASKS': '1'},
        {'RANK': '0', 'WORLD_SIZE': '1'},
    ],
)
def test_one_process_needs_no_group(environment, variables):
    environment(**variables)
    with distributed.process_group('cpu') as device:
        assert device == torch.device('cpu')
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ('variables', 'works', 'note'),
    [
        ({}, True, False),
        ({'RANK': '0', 'WORLD_SIZE': '1', 'LOCAL_RANK': '0'}, True, False),
        ({'RANK': '0', 'WORLD_SIZE': '2', 'LOCAL_RANK': '0'}, True, True),
        ({'RANK': '1', 'WORLD_SIZE': '2', 'LOCAL_RANK': '1'}, False, False),
        (SRUN, False, False),
        (SRUN | {'SLURM_PROCID': '0'}, True, True),
        (MPIRUN, False, False),
    ],
)
def test_evaluation_runs_in_the_first_process(environment, capsys, variables, works, note):
    environment(**variables)
    assert distributed.first_process_only() is works
    assert ('the others leave' in capsys.readouterr().err) is note


def test_a_failing_process_does_not_wait_for_the_others(environment, monkeypatch):
    environment(RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1')
    calls = []
    for name in ('init_process_group', 'barrier', 'destroy_process_group'):
        monkeypatch.setattr(distributed.dist, name, lambda *_, name=name: calls.append(name))
    with pytest.raises(InputError), distributed.process_group('cpu'):
        raise InputError('no data')
    assert calls == ['init_process_group']
    with distributed.process_group('cpu'):
        pass
    assert calls[1:] == ['init_process_group', 'barrier', 'destroy_process_group']


def free_port():
    """A free port."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])
