"""Free memory, as the kernel and the limit of a container tell it."""

import math

import pytest

from feeder.memory import PROCESSES_HERE, free_memory

GB = 10**9
MEMINFO = {'proc/meminfo': 'MemTotal: 64000000 kB\nMemFree: 1 kB\nMemAvailable:   32000000 kB\n'}
KERNEL = 32_000_000 * 1024
LIMIT = 'sys/fs/cgroup/memory.max'


@pytest.fixture
def alone(monkeypatch):
    for name in PROCESSES_HERE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        ({}, math.inf),
        (MEMINFO, KERNEL),
        (MEMINFO | {LIMIT: 'max\n'}, KERNEL),
        (MEMINFO | {LIMIT: f'{10**4 * GB}\n'}, KERNEL),
        (MEMINFO | {LIMIT: f'{GB}\n'}, GB),
        ({LIMIT: f'{GB}\n'}, GB),
    ],
    ids=['unknown', 'kernel', 'no limit', 'above the memory', 'in a container', 'limit alone'],
)
def test_free_memory(tmp_path, alone, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == expected


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [
        ({}, 1),
        ({'LOCAL_WORLD_SIZE': '8'}, 8),
        ({'OMPI_COMM_WORLD_LOCAL_SIZE': '3'}, 3),
        ({'SLURM_STEP_TASKS_PER_NODE': '4(x2),1'}, 4),
        ({'SLURM_STEP_TASKS_PER_NODE': '1', 'LOCAL_WORLD_SIZE': '2'}, 2),
    ],
)
def test_processes_on_one_machine_share_it(tmp_path, alone, monkeypatch, variables, expected):
    (tmp_path / 'proc').mkdir()
    (tmp_path / 'proc/meminfo').write_text('MemAvailable: 800 kB\n')
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert free_memory(tmp_path) == 800 * 1024 / expected
