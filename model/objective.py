"""The objective of UmURL: consistency within and between modalities, variance and covariance of every projection."""
from typing import NamedTuple

import torch
from torch.nn.functional import mse_loss

CONSISTENCY, VARIANCE = 5, 5  # the published weights; the covariance has weight 1


class Losses(NamedTuple):
    intra: torch.Tensor
    inter: torch.Tensor
    reg: torch.Tensor
    total: torch.Tensor


def variance_covariance(z):
    """VC regularisation of projections z (..., B, D), one value per leading index: 5 x variance hinge + covariance.

    With centred Z, ||Z'Z|| = ||ZZ'||: the off-diagonal covariances cost B*B*D and B*B memory, not B*D*D and D*D.
    """
    z = z - z.mean(-2, keepdim=True)
    var = z.square().sum(-2) / (z.shape[-2] - 1)
    gram = z @ z.mT / (z.shape[-2] - 1)
    off_diagonal = gram.square().sum((-2, -1)) - var.square().sum(-1)
    hinge = torch.relu(1 - torch.sqrt(var + 1e-4)).mean(-1)
    return VARIANCE * hinge + off_diagonal / z.shape[-1]


def umurl_objective(projections):
    """Losses of the six z's (B, D) of the whole, global batch, in float32."""
    z = torch.stack(tuple(projections)).float()
    uni, fused = z[:3], z[3:]
    intra = 3 * mse_loss(uni, fused)  # the sum over the three modalities of means over B and D
    inter = 3 * mse_loss(uni, uni.mean(0, keepdim=True).expand_as(uni))
    reg = variance_covariance(z).sum()
    return Losses(intra, inter, reg, CONSISTENCY * (intra + inter) + reg)
