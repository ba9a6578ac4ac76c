"""Several processes compute what one would."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
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
    has 2 clips.
    """
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub', train=10)
    flags = [
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
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)


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
            if name.startswith('SLURM_') or name in (
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


def test_torchrun_variables(environment):
    environment(RANK='3', WORLD_SIZE='4', LOCAL_RANK='1')
    assert distributed.launcher_environment() == {'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': '1'}


def test_slurm_variables(environment):
    environment(
        SLURM_PROCID='5', SLURM_STEP_NUM_TASKS='8', SLURM_LOCALID='1', SLURM_NODELIST='node7,node9'
    )
    found = distributed.slurm_environment()
    assert found == {
        'RANK': '5',
        'WORLD_SIZE': '8',
        'LOCAL_RANK': '1',
        'MASTER_ADDR': 'node7',
        'MASTER_PORT': '20000',
    }


def test_slurm_jobs_have_ports_of_their_own(environment):
    ports = []
    for variables in (
        {'SLURM_JOB_ID': '1234567'},
        {'SLURM_JOB_ID': '1234568'},
        {'MASTER_PORT': '29501'},
    ):
        environment(
            SLURM_PROCID='0',
            SLURM_STEP_NUM_TASKS='2',
            SLURM_LOCALID='0',
            MASTER_ADDR='node7',
            **variables,
        )
        ports.append(distributed.launcher_environment()['MASTER_PORT'])
    assert ports == ['24567', '24568', '29501']


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
    'variables', [{}, {'SLURM_PROCID': '0', 'SLURM_NTASKS': '8', 'SLURM_LOCALID': '0'}]
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
    ],
)
def test_evaluation_runs_in_the_first_process(environment, capsys, variables, works, note):
    environment(**variables)
    assert distributed.first_process_only() is works
    assert ('the others leave' in capsys.readouterr().err) is note


def test_a_failing_process_does_not_wait_for_the_others(environment, monkeypatch):
    environment(RANK='0', WORLD_SIZE='2', LOCAL_RANK='0')
    calls = []
    for name in ('init_process_group', 'barrier', 'destroy_process_group'):
        monkeypatch.setattr(distributed.dist, name, lambda *_, name=name: calls.append(name))
    with pytest.raises(InputError), distributed.process_group('cpu'):
        raise InputError('no data')
    assert calls == ['init_process_group']
    with distributed.process_group('cpu'):
        pass
    assert calls[1:] == ['init_process_group', 'barrier', 'destroy_process_group']


def test_two_slurm_tasks_form_a_group(tmp_path):
    """A step of two tasks, as srun would start them."""
    port = free_port()
    tasks = []
    for task in range(2):
        variables = {
            'SLURM_PROCID': str(task),
            'SLURM_NTASKS': '2',
            'SLURM_LOCALID': str(task),
            'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': port,
            'PYTHONPATH': str(ROOT),
            'OMP_NUM_THREADS': '1',
        }
        tasks.append(
            subprocess.Popen(
                [sys.executable, WORKER, tmp_path / 'slurm.pt'],
                cwd=ROOT,
                env=os.environ | variables,
            )
        )
    assert [task.wait(120) for task in tasks] == [0, 0]
    assert (tmp_path / 'slurm.pt').is_file()


def free_port():
    """A free port."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])
