"""What a training run changes as it trains, and when it is saved."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tools import checkpoint
from tools.distributed import rank
from tools.training.monitor import Monitor
from tools.training.run_config import RunConfig
from tools.version import code_version


@dataclass
class TrainState:
    """Model, optimizer, loss scaler, monitor, and how far the run is.

    A checkpoint holds all of it, so that a run continues at any step.
    """

    model: nn.Module  # not the one wrapped by DistributedDataParallel
    optimizer: torch.optim.Optimizer
    loss_scaler: torch.amp.GradScaler
    monitor: Monitor
    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the next one

    def load(self, saved: dict, path: Path | None, weight_decay: float) -> None:
        """Start from what `read_resumable` returned, with this run's weight decay; InputError if the
        checkpoint does not fit.
        """
        self.epoch, self.step = saved['epoch'], saved.get('step', 0)
        if path is None:
            return
        checkpoint.load_weights(self.model, saved, path)
        checkpoint.load_optimizer(self.optimizer, saved, path, weight_decay)
        if self.loss_scaler.is_enabled() and saved.get('scaler'):
            self.loss_scaler.load_state_dict(saved['scaler'])
        if self.step:
            self.monitor.start_epoch(self.epoch, saved.get('monitor'))

    def finish_epoch(self) -> None:
        self.epoch, self.step = self.epoch + 1, 0

    def save(self, path: Path, config: RunConfig) -> None:
        checkpoint.save(
            path,
            self.model,
            self.optimizer,
            self.epoch,
            step=self.step,
            monitor=self.monitor.state(),
            scaler=self.loss_scaler.state_dict(),
            config=config.entries(),
            code={'torch': str(torch.__version__), **code_version()},
        )


class RunCheckpoints:
    """When a run saves: some epochs to keep, and a last checkpoint, replaced every few minutes.

    Only rank 0 writes.
    """

    def __init__(self, folder: Path, config: RunConfig, save_every: int, save_minutes: float):
        self.folder, self.config = folder, config
        self.save_every, self.save_seconds = save_every, 60 * save_minutes
        self.saved_at = time.monotonic()

    def save_last(self, state: TrainState, now: bool) -> None:
        """Replace the last checkpoint if it is old, or `now`. A broken state is not saved."""
        is_due = now or time.monotonic() - self.saved_at >= self.save_seconds
        if rank() == 0 and is_due and not state.monitor.problem():
            state.save(self.folder / checkpoint.LAST, self.config)
            self.saved_at = time.monotonic()

    def after_epoch(self, state: TrainState, is_last: bool, now: bool) -> None:
        """Keep the checkpoint of the first, of every `save_every`th and of the last epoch; see
        `save_last` too.
        """
        epoch = state.epoch - 1  # the one that has just ended
        if rank() == 0 and (is_last or epoch % self.save_every == 0):
            state.save(checkpoint.path_of(self.folder, epoch), self.config)
        self.save_last(state, now or is_last)
