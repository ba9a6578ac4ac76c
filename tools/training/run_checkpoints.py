"""When a training run saves: kept checkpoints after some epochs, and one that is replaced every few
minutes.
"""

import time
from pathlib import Path

import torch
from torch import nn

from tools import checkpoint
from tools.distributed import rank
from tools.training.monitor import Monitor


class RunCheckpoints:
    """Saves model, optimizer, loss scaler, and how far the run is. Only rank 0 writes.

    A checkpoint holds `epoch` (finished epochs), `step` (finished steps of the next one) and the
    monitor's state, so that a run continues at any step.
    """

    def __init__(
        self,
        folder: Path,
        config: dict,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_scaler: torch.amp.GradScaler,
        monitor: Monitor,
        save_every: int,
        save_minutes: float,
    ):
        self.folder, self.config, self.model, self.optimizer = folder, config, model, optimizer
        self.loss_scaler, self.monitor = loss_scaler, monitor
        self.save_every, self.save_seconds, self.saved_at = (
            save_every,
            60 * save_minutes,
            time.monotonic(),
        )

    def save(self, path: Path, epoch: int, step: int) -> None:
        checkpoint.save(
            path,
            self.model,
            self.optimizer,
            epoch,
            step=step,
            monitor=self.monitor.state(),
            scaler=self.loss_scaler.state_dict(),
            config=self.config,
        )

    def save_last(self, epoch: int, step: int, now: bool) -> None:
        """Replace the last checkpoint if it is old, or `now`."""
        if rank() == 0 and (now or time.monotonic() - self.saved_at >= self.save_seconds):
            self.save(self.folder / checkpoint.LAST, epoch, step)
            self.saved_at = time.monotonic()

    def after_epoch(self, epoch: int, is_last: bool, now: bool) -> None:
        """Keep the checkpoint of the first, of every `save_every`th and of the last epoch; see
        `save_last` too.
        """
        if rank() == 0 and (is_last or epoch % self.save_every == 0):
            self.save(checkpoint.path_of(self.folder, epoch), epoch + 1, 0)
        self.save_last(epoch + 1, 0, now or is_last)
