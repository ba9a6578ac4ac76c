"""What is watched during training: losses, gradient norm, spread of the projections. Adding a step
does not wait for the GPU; only reading does.
"""

import sys
import time

import torch

from model.objective import Losses
from model.umurl import projections_of
from tools.common.cli import InputError
from tools.distributed import rank

# mean standard deviation of a projection; the variance term of the objective pulls it towards 1
COLLAPSED = 0.1


def projection_names(modalities, objective: str) -> list[str]:
    """Names of the projections that a model returns: z_j, z_b, z_m, z_uj, z_ub, z_um, or the two of
    the baseline.
    """
    if objective == 'baseline':
        return ['z_1', 'z_2']
    return projections_of(tuple(modalities))._fields


class Monitor:
    """Means over one epoch, weighted by clips: each loss, the gradient norm, each projection's
    standard deviation.

    Sums stay on the device until `means`, `state` or `problem` reads them. `fp16`: the loss scaler
    skips steps whose gradient overflows; they are counted. Any other number that is not finite is a
    problem.
    """

    def __init__(self, device: torch.device, projections: list[str], fp16: bool):
        self.device, self.fp16, self.warned = device, fp16, False
        self.names = (*Losses._fields, 'grad_norm', *(f'std_{name}' for name in projections))
        self.start_epoch(0)

    def start_epoch(self, epoch: int, state: dict | None = None) -> None:
        """Start an epoch, or continue it from the `state` of an earlier run."""
        nothing = {'sums': [0.0] * len(self.names), 'skipped': 0, 'clips': 0, 'seconds': 0.0}
        state = state or nothing
        try:
            if state.get('names', self.names) != self.names:  # before a loss term was added, say
                if rank() == 0:
                    print(
                        f'note: the means of epoch {epoch} cover only the steps after resuming',
                        file=sys.stderr,
                    )
                state = nothing
            self.epoch, self.clips, self.started = (
                epoch,
                int(state['clips']),
                time.perf_counter() - state['seconds'],
            )
            self.sums = (
                torch.tensor(state['sums'], dtype=torch.float64)
                .view(len(self.names))
                .to(self.device)
            )
            self.skipped = torch.full((), int(state['skipped']), device=self.device)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f'the checkpoint does not hold what its unfinished epoch has measured: {error}'
            ) from error
        self.first_bad_step = torch.zeros_like(self.skipped)

    def state(self) -> dict:
        """What `start_epoch` needs to continue the epoch."""
        return {
            'names': self.names,
            'sums': self.sums.tolist(),
            'skipped': int(self.skipped),
            'clips': self.clips,
            'seconds': time.perf_counter() - self.started,
        }

    def add(self, step: int, losses: Losses, projections, grad_norm: torch.Tensor) -> None:
        """Add a step. projections: those of all processes, 2k of (B, D); grad_norm: infinite in a
        skipped step.
        """
        z = (
            (projections if torch.is_tensor(projections) else torch.stack(tuple(projections)))
            .detach()
            .float()
        )
        overflow = ~grad_norm.isfinite()
        bad = ~losses.total.detach().isfinite()
        if self.fp16:
            self.skipped += overflow
            grad_norm = torch.where(overflow, 0, grad_norm)
        else:
            bad = bad | overflow
        self.first_bad_step = torch.where(
            bad & (self.first_bad_step == 0), step, self.first_bad_step
        )
        values = torch.cat((torch.stack((*losses, grad_norm)).detach(), z.std(1).mean(1)))
        self.sums += z.shape[1] * values
        self.clips += z.shape[1]

    def problem(self) -> str:
        """What to tell the user if a number was not finite, else an empty text."""
        step = int(self.first_bad_step)
        if not step:
            return ''
        return (
            f'the loss or its gradient is not finite since epoch {self.epoch}, step {step}; the '
            'last checkpoint is good: resume from it with a smaller --lr, or without --amp fp16'
        )

    def means(self) -> dict[str, float]:
        """The means so far, and clips per second. Warns once of a collapse."""
        means = dict(zip(self.names, (self.sums / self.clips).tolist(), strict=True))
        collapsed = [
            name for name, value in means.items() if name.startswith('std_') and value < COLLAPSED
        ]
        if collapsed and not self.warned:
            print(
                f'warning: the features are collapsing: {", ".join(collapsed)} below {COLLAPSED} '
                'in epoch '
                f'{self.epoch}',
                file=sys.stderr,
            )
            self.warned = True
        skipped = {'skipped_steps': int(self.skipped)} if self.fp16 else {}
        return (
            means
            | skipped
            | {'clips_per_second': self.clips / (time.perf_counter() - self.started)}
        )
