"""Learning rates by epoch."""

import math

import torch


def lr_factors(epochs: int, milestones: list[int], cos: bool) -> list[float]:
    """What --lr is multiplied by in each epoch: a tenth from each milestone on, or a half cosine
    from 1 to 0.
    """
    if cos:
        return [0.5 * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs)]
    return [0.1 ** sum(epoch >= milestone for milestone in milestones) for epoch in range(epochs)]


def adjust_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group['lr'] = lr
