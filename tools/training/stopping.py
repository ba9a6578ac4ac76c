"""Signals that ask a training run to stop: it finishes its step and saves, and all processes leave
together.
"""

import os
import signal
import time
from types import FrameType

import torch
import torch.distributed as dist

from tools.distributed import launcher_environment, world_size

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# seconds within which a launcher passes a signal on that its processes have received already
PASSED_ON = 2.0


class StopSignals:
    """Notices a first SIGINT, SIGTERM or SIGUSR1 (sent by SLURM and clouds before they take a
    machine); a second one ends the process at once.

    Processes agree through gloo, also beside nccl, so no GPU waits: after every step on a CPU,
    every tenth on a GPU.
    """

    def __init__(self, device: torch.device):
        self.number, self.first_at, self.steps = 0, 0.0, 0
        self.every = 1 if device.type == 'cpu' else 10
        self.group = dist.new_group(backend='gloo') if world_size() > 1 else None
        for number in SIGNALS:
            signal.signal(number, self.receive)

    def receive(self, number: int, frame: FrameType | None) -> None:
        passed_on = (
            launcher_environment() is not None and time.monotonic() - self.first_at < PASSED_ON
        )
        if self.number and not passed_on:
            os._exit(128 + number)
        if not self.number:
            self.number, self.first_at = number, time.monotonic()

    def agreed(self) -> int:
        """The signal that any process has received, or 0. All processes call this after each step."""
        self.steps += 1
        if self.group is None:
            return self.number
        if self.steps % self.every:
            return 0
        number = torch.tensor(self.number)
        dist.all_reduce(number, dist.ReduceOp.MAX, group=self.group)
        return int(number)
