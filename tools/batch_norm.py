"""BatchNorm over the clips of all processes, so that several compute what one would, on CPUs and on
GPUs.

SyncBatchNorm of torch refuses CPU tensors, and its boolean masks make the host wait for the GPU.
"""

import torch
import torch.distributed as dist
from torch import nn


class GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d of (B, C) over a process group whose processes all have B rows; its state dict is
    BatchNorm1d's.

    In training it waits for the other processes once in the forward and once in the backward;
    evaluation is local.
    """

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        y, mean, variance = Normalize.apply(x, self.weight, self.bias, self.eps)
        rows = len(x) * dist.get_world_size()
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (rows / (rows - 1)), self.momentum)
        return y

    if (
        torch.__version__ < '2.13'
    ):  # torch 2.4 cannot compile the backward; those between were not tried
        forward = torch.compiler.disable(forward)


class Normalize(torch.autograd.Function):
    """x (B, C) -> normalised over all processes' rows, scaled and shifted; mean and biased variance
    (C,) of the rows.

    Computes in the dtype of the weights, whatever autocast made of x. As in SyncBatchNorm, the
    gradients of weight and bias are this process's part of the sum.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        rows = x.to(weight.dtype)
        mean = rows.mean(0)
        variance = (rows - mean).square().mean(0)
        # Float64, because the difference of mean square and squared mean would lose digits in
        # float32.
        mean, square = average(
            torch.stack((mean.double(), variance.double() + mean.double().square()))
        )
        mean, variance = mean.to(rows.dtype), (square - mean.square()).clamp(min=0).to(rows.dtype)
        inverse = (variance + eps).rsqrt()
        normalized = (rows - mean) * inverse
        ctx.save_for_backward(normalized, weight * inverse)
        ctx.mark_non_differentiable(mean, variance)
        return (normalized * weight + bias).to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx, gradient, _, __):
        normalized, scale = ctx.saved_tensors
        rows = gradient.to(normalized.dtype)
        sums = torch.stack((rows.sum(0), (rows * normalized).sum(0)))
        mean, along = average(sums / len(rows))
        return (
            ((rows - mean - normalized * along) * scale).to(gradient.dtype),
            sums[1],
            sums[0],
            None,
        )


def average(tensor: torch.Tensor) -> torch.Tensor:
    """The mean over all processes, in place."""
    dist.all_reduce(tensor)
    return tensor.div_(dist.get_world_size())


def synchronize(model: nn.Module) -> None:
    """Make each BatchNorm1d of the model a GlobalBatchNorm with the same parameters and buffers."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.__class__ = GlobalBatchNorm  # which has no state of its own
