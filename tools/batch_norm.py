"""BatchNorm over the clips of all processes, so that several compute what one would, on CPUs and on
GPUs.

SyncBatchNorm of torch refuses CPU tensors, and its boolean masks make the host wait for the GPU.
"""

import torch
import torch.distributed as dist
from torch import nn


class Average(torch.autograd.Function):
    """The mean of a tensor over all processes. The gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx, tensor):
        return average(tensor)

    @staticmethod
    def backward(ctx, gradient):
        return average(gradient)


def average(tensor):
    total = tensor.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


class GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d of (B, C) over a process group whose processes all have B rows; its state dict is
    BatchNorm1d's.

    In training it waits for the other processes once in the forward and once in the backward;
    evaluation is local. It computes in the dtype of the weights, whatever autocast made of x. As in
    SyncBatchNorm, the gradients of weight and bias are this process's part of the sum.
    """

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        rows = x.to(self.weight.dtype)
        mean = rows.mean(0)
        variance = (rows - mean).square().mean(0)
        # Of all processes. In float32 the difference of mean square and squared mean loses digits.
        mean = mean.double()
        square = variance.double() + mean.square()
        mean, square = Average.apply(torch.stack((mean, square)))
        variance = (square - mean.square()).clamp(min=0).to(rows.dtype)
        mean = mean.to(rows.dtype)
        self.update_running(mean.detach(), variance.detach(), len(x) * dist.get_world_size())
        y = (rows - mean) * (variance + self.eps).rsqrt()
        return (y * self.weight + self.bias).to(x.dtype)

    # torch 2.4 cannot compile the communication; those between were not tried.
    if torch.__version__ < '2.13':
        forward = torch.compiler.disable(forward)

    def update_running(self, mean, variance, num_rows):
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (num_rows / (num_rows - 1)), self.momentum)


def synchronize(model: nn.Module) -> None:
    """Replace each BatchNorm1d in the model by a GlobalBatchNorm with the same parameters and
    buffers.
    """
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm1d):
                setattr(parent, name, global_batch_norm(norm))


def global_batch_norm(norm: nn.BatchNorm1d) -> GlobalBatchNorm:
    replacement = GlobalBatchNorm(norm.num_features, norm.eps, norm.momentum)
    for name, tensor in norm.state_dict(keep_vars=True).items():
        setattr(replacement, name, tensor)
    return replacement.train(norm.training)
