"""What ends a training run early: a signal, after which it finishes its step and saves, or a loss
that is not finite. All processes leave together.
"""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from types import FrameType

import torch
import torch.distributed as dist

from tools.common.cli import InputError
from tools.distributed import launcher_environment, rank, world_size

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# Seconds within which the same signal counts once: launchers pass on what their processes have
# received already.
PASSED_ON = 2.0
if hasattr(os, 'register_at_fork'):  # not on Windows; else signals to a child would end the run
    os.register_at_fork(after_in_child=partial(signal.set_wakeup_fd, -1))
PROBLEM = 1000  # stands for a problem among the signals, and is larger than any of them


class StopSignals:
    """Notices a first SIGINT, SIGTERM or SIGUSR1 (sent by SLURM and clouds before they take a
    machine); a second one ends the process at once. Also carries a problem that rank 0 found.

    Processes agree through gloo, also beside nccl, so no GPU waits: after every step on a CPU,
    every tenth on a GPU.
    """

    def __init__(self, device: torch.device):
        self.number = 0  # the signal that this process has received
        self.problem = ''  # what rank 0 has found
        self.reason = 0  # what all processes have agreed on
        self.steps = 0
        self.is_first = rank() == 0
        self.every = 1 if device.type == 'cpu' else 10
        self.group = dist.new_group(backend='gloo') if world_size() > 1 else None
        self.wakeup, self.received = socket.socketpair()
        self.wakeup.setblocking(False)
        self.wakeup_before = signal.set_wakeup_fd(self.wakeup.fileno())
        self.answering = threading.Thread(target=self.answer, daemon=True)
        self.answering.start()
        self.handlers = {number: signal.signal(number, self.receive) for number in SIGNALS}

    def receive(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number

    def answer(self) -> None:
        """Say at once what a first signal does, and end the process on a second one.

        Runs in a thread: Python calls no handler during a backward pass, which can take a minute.
        """
        first, first_at = 0, 0.0
        while byte := self.received.recv(1):
            number = byte[0]
            passed_on = number == first and time.monotonic() - first_at < PASSED_ON
            if number not in SIGNALS or passed_on:
                continue
            name = signal.Signals(number).name
            if first:
                self.say(f'{name}: ended; --resume auto continues from the last checkpoint')
                os._exit(128 + number)
            else:
                first, first_at = number, time.monotonic()
                self.say(
                    f'{name}: stopping after this step; another signal after {PASSED_ON:g} s ends '
                    'the run at once, and loses what is not saved'
                )

    def say(self, line: str) -> None:
        if self.is_first:
            with suppress(OSError, ValueError):  # nobody may read it any more
                print(f'\n{line}', file=sys.stderr)  # below the progress bar

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
        signal.set_wakeup_fd(self.wakeup_before)
        self.wakeup.close()
        self.answering.join()
        self.received.close()

    def leave(self) -> None:
        """End this process for the reason agreed on; rank 0 says which in one line."""
        if launcher_environment() is None:
            self.restore_handlers()
        else:
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
