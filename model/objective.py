"""The objective of UmURL: consistency within and between modalities, variance and covariance of every projection."""
from typing import NamedTuple

import torch
from torch.nn.functional import mse_loss


class Weights(NamedTuple):
    """Of the terms of the objective; the defaults are the published ones."""
    intra: float = 5
    inter: float = 5
    variance: float = 5
    covariance: float = 1


PUBLISHED = Weights()


class Losses(NamedTuple):
    intra: torch.Tensor
    inter: torch.Tensor
    reg: torch.Tensor
    total: torch.Tensor


def variance_covariance(z, weights=PUBLISHED):
    """VC regularisation of projections z (..., B, D), one value per leading index: variance hinge + covariance.

    With centred Z, ||Z'Z|| = ||ZZ'||: the off-diagonal covariances cost B*B*D and B*B memory, not B*D*D and D*D.
    """
    z = z - z.mean(-2, keepdim=True)
    var = z.square().sum(-2) / (z.shape[-2] - 1)
    gram = z @ z.mT / (z.shape[-2] - 1)
    off_diagonal = gram.square().sum((-2, -1)) - var.square().sum(-1)
    hinge = torch.relu(1 - torch.sqrt(var + 1e-4)).mean(-1)
    return weights.variance * hinge + weights.covariance * off_diagonal / z.shape[-1]


def umurl_objective(projections, weights=PUBLISHED):
    """Losses of the z's of the whole, global batch, in float32: k uni-modal ones, then the k fused ones.

    projections: 2k tensors (B, D), or one (2k, B, D). k is 3, the published case, or the number of modalities trained
    on; with k = 1, two views of one kind, inter is 0.
    """
    z = (projections if torch.is_tensor(projections) else torch.stack(tuple(projections))).float()
    uni, fused = z.chunk(2)
    intra = len(uni) * mse_loss(uni, fused)  # the sum over the modalities of means over B and D
    inter = len(uni) * mse_loss(uni, uni.mean(0, keepdim=True).expand_as(uni))
    reg = variance_covariance(z, weights).sum()
    return Losses(intra, inter, reg, weights.intra * intra + weights.inter * inter + reg)
