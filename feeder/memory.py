"""How much host memory is free."""

import math
import os
import re
from pathlib import Path

# of torchrun, mpirun and SLURM: how many processes are on this machine
PROCESSES_HERE = ('LOCAL_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE', 'SLURM_STEP_TASKS_PER_NODE')


def free_memory(root: Path = Path('/')) -> float:
    """Bytes of host memory that this process may fill; infinite if unknown. root: of proc/ and sys/.

    That is what the kernel calls available, or the limit of a container if that is lower. It is
    shared evenly among the processes that a launcher started on this machine.
    """
    kernel = 1024 * number_in(root / 'proc/meminfo', r'MemAvailable: *(\d+)')
    container = number_in(root / 'sys/fs/cgroup/memory.max', r'(\d+)')
    counts = [os.environ.get(name) for name in PROCESSES_HERE]
    processes = next(filter(None, counts), '1')
    # SLURM writes 4(x2),1 for machines with 4, 4 and 1
    return min(kernel, container) / int(re.match(r'\d+', processes)[0])


def number_in(file: Path, pattern: str) -> float:
    """The number at the start of a line that matches; infinite without such a file or line."""
    found = re.search(f'^{pattern}', file.read_text(), re.M) if file.is_file() else None
    return int(found[1]) if found else math.inf
