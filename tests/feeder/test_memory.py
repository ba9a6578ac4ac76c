"""Free memory, as /proc and the cgroups of either version tell it."""

import math

import pytest

from feeder.memory import free_memory

GB = 10**9
MEMINFO = {'proc/meminfo': 'MemTotal: 64000000 kB\nMemFree: 1 kB\nMemAvailable:   32000000 kB\n'}
KERNEL = 32_000_000 * 1024
V1, V2 = 'sys/fs/cgroup/memory/', 'sys/fs/cgroup/'


@pytest.fixture
def alone(monkeypatch):
    for name in ('LOCAL_WORLD_SIZE', 'SLURM_STEP_TASKS_PER_NODE'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        ({}, math.inf),
        (MEMINFO, KERNEL),
        (
            {
                'proc/self/cgroup': '0::/job/step\n',
                V2 + 'job/memory.max': f'{8 * GB}\n',
                V2 + 'job/step/memory.max': 'max\n',
                V2 + 'job/memory.stat': f'file {GB}\nanon {3 * GB}\ninactive_anon {GB}\n',
            },
            5 * GB,
        ),
        ({'proc/self/cgroup': '0::/job\n', V2 + 'job/memory.max': 'max\n'}, KERNEL),
        ({'proc/self/cgroup': '0::/job\n', V2 + 'job/memory.max': f'{10**4 * GB}\n'}, KERNEL),
        ({'proc/self/cgroup': '0::/\n', V2 + 'memory.max': f'{GB}\n'}, GB),
        (
            {
                'proc/self/cgroup': '5:cpu:/docker/7\n4:memory:/docker/7\n0::/\n',
                V1 + 'memory.limit_in_bytes': f'{6 * GB}\n',
                V1 + 'memory.stat': f'cache {GB}\nrss {GB}\ntotal_rss {2 * GB}\n',
            },
            4 * GB,
        ),
    ],
    ids=[
        'unknown',
        'kernel',
        'v2',
        'v2 without a limit',
        'v2 above the memory',
        'in a container',
        'v1 in a container',
    ],
)
def test_free_memory(tmp_path, alone, files, expected):
    for name, text in (files and MEMINFO | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == expected


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [
        ({}, 1),
        ({'LOCAL_WORLD_SIZE': '8'}, 8),
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
