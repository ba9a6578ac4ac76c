"""What happens after each step of a training run."""

import time

from tqdm import tqdm

from tools.distributed import rank
from tools.training.state import RunCheckpoints, TrainState
from tools.training.stopping import StopSignals

SECONDS_BETWEEN_LOOKS = 2.0  # a look waits for the GPU


class Watch:
    """Called after each step: shows the loss, saves by the clock, and returns why all processes
    stop here, or 0.

    num_steps: of an epoch. print_freq: steps between looks at the loss. Only rank 0 looks, at the
    end of an epoch too, and stops all processes if it finds a number that is not finite.
    """

    def __init__(
        self,
        state: TrainState,
        num_steps: int,
        stop: StopSignals,
        checkpoints: RunCheckpoints,
        bar: tqdm,
        print_freq: int,
    ):
        self.state, self.num_steps = state, num_steps
        self.stop, self.checkpoints, self.bar = stop, checkpoints, bar
        self.print_freq = print_freq
        self.looked_at = float('-inf')

    def __call__(self) -> int:
        self.bar.update()
        epoch_ends = self.state.step == self.num_steps
        if rank() == 0 and (epoch_ends or self.is_due()):
            self.look()
        reason = self.stop.agreed(now=epoch_ends)
        if not epoch_ends:
            self.checkpoints.save_last(self.state, now=reason)
        return reason

    def is_due(self) -> bool:
        waited = time.monotonic() - self.looked_at
        return self.state.step % self.print_freq == 0 and waited >= SECONDS_BETWEEN_LOOKS

    def look(self) -> None:
        monitor = self.state.monitor
        self.stop.problem = monitor.problem()
        total = f'{monitor.means()["total"]:.3f}'
        self.bar.set_postfix(epoch=self.state.epoch, total=total, refresh=False)
        self.looked_at = time.monotonic()
