"""torchrun with a process for each GPU of this machine, or one on the CPU; flags are torchrun's.

A signal that stops the processes cleanly ends it with 128 + the signal, and without the traceback
that torchrun prints.
"""

import tools.common.start  # noqa: F401

import sys

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.run import main

if __name__ == '__main__':
    gpus = torch.cuda.device_count()
    if not gpus:
        print('note: torch sees no GPU here: one process on the CPU', file=sys.stderr)
    try:
        main([f'--nproc-per-node={max(1, gpus)}', *sys.argv[1:]])
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
