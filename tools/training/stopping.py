"""What ends a training run early: a signal, after which it finishes its step and saves, or a loss
that is not finite. All processes leave together.
"""

import os
import signal
import sys
import time
from types import FrameType

import torch
import torch.distributed as dist

from tools.common.cli import InputError
from tools.distributed import launcher_environment, rank, world_size

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# seconds within which a launcher passes a signal on that its processes have received already
PASSED_ON = 2.0
PROBLEM = 1000  # stands for a problem among the signals, and is larger than any of them


class StopSignals:
    """Notices a first SIGINT, SIGTERM or SIGUSR1 (sent by SLURM and clouds before they take a
    machine); a second one ends the process at once. Also carries a problem that rank 0 found.

    Processes agree through gloo, also beside nccl, so no GPU waits: after every step on a CPU,
    every tenth on a GPU.
    """

    def __init__(self, device: torch.device):
        self.number, self.first_at = 0, 0.0  # the signal that this process has received
        self.problem = ''  # what rank 0 has found
        self.reason = 0  # what all processes have agreed on
        self.steps = 0
        self.is_first = rank() == 0
        self.every = 1 if device.type == 'cpu' else 10
        self.group = dist.new_group(backend='gloo') if world_size() > 1 else None
        self.handlers = {number: signal.signal(number, self.receive) for number in SIGNALS}

    def receive(self, number: int, frame: FrameType | None) -> None:
        passed_on = (
            launcher_environment() is not None and time.monotonic() - self.first_at < PASSED_ON
        )
        if self.number and not passed_on:
            os._exit(128 + number)
        if not self.number:
            self.number, self.first_at = number, time.monotonic()

    def agreed(self, now: bool = False) -> int:
        """The signal that any process has received, or PROBLEM if rank 0 has found one, or 0.

        All processes call this after each step. now: agree after this step in any case.
        """
        self.steps += 1
        reason = PROBLEM if self.problem else self.number
        if self.group is None:
            self.reason = reason
        elif now or self.steps % self.every == 0:
            largest = torch.tensor(reason)
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.group)
            self.reason = int(largest)
        return self.reason

    def restore_handlers(self) -> None:
        """Let signals do what they did before."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """End this process for the reason agreed on; rank 0 says which in one line."""
        self.restore_handlers()
        if launcher_environment() is not None:
            for number in SIGNALS:  # torchrun ends the others once the first has left
                signal.signal(number, signal.SIG_IGN)
        if self.problem:
            raise InputError(self.problem)
        if self.reason == PROBLEM:
            sys.exit(2)
        if self.is_first:
            name = signal.Signals(self.reason).name
            print(f'stopped by {name}; the same command with --resume auto continues')
        sys.exit(128 + self.reason)
