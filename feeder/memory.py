"""How much host memory is free."""

import math
import os
import re
from pathlib import Path


def free_memory(root: Path = Path('/')) -> float:
    """Bytes that the kernel and this process's cgroups leave free; infinite if unknown. root: of
    proc/ and sys/.

    They are shared out evenly among the processes that torchrun or SLURM started on this machine.
    """
    free = 1024 * number_in(root / 'proc/meminfo', 'MemAvailable: *', math.inf)
    cgroups = root / 'proc/self/cgroup'
    for controller, path in re.findall(
        r'^\d+:(memory|):/(.*)', cgroups.read_text() if cgroups.is_file() else '', re.M
    ):
        cgroup = root / 'sys/fs/cgroup' / controller / path
        limit = 'memory.limit_in_bytes' if controller else 'memory.max'  # versions 1 and 2
        for folder in (
            cgroup,
            *cgroup.parents,
        ):  # a parent can have the limit; in a container it may be all one sees
            used = number_in(
                folder / 'memory.stat', '(?:total_rss|anon) ', 0
            )  # without the page cache
            free = min(free, number_in(folder / limit, '', math.inf) - used)
    processes = os.environ.get('LOCAL_WORLD_SIZE') or os.environ.get(
        'SLURM_STEP_TASKS_PER_NODE', '1'
    )
    return free / int(
        re.match(r'\d+', processes)[0]
    )  # SLURM writes 4(x2),1 for machines with 4, 4 and 1


def number_in(file: Path, label: str, default: float) -> float:
    """The number behind a label at the start of a line; the default if there is no such file or
    line.
    """
    found = re.search(rf'^{label}(\d+)', file.read_text(), re.M) if file.is_file() else None
    return int(found[1]) if found else default
