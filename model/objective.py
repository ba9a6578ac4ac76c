"""The objective of UmURL: consistency within and between modalities, variance and covariance of
every projection.

Follows section 3 of the paper (arXiv 2311.03106) and the losses in pretrain.py of the official
code; the variance and covariance terms are those of VICReg (arXiv 2105.04906).
"""

from collections import namedtuple
from typing import NamedTuple

import torch
from torch.nn.functional import mse_loss


class Weights(NamedTuple):
    """Weights of the objective's terms; the defaults are the published ones."""

    intra: float = 5
    inter: float = 5
    variance: float = 5
    covariance: float = 1


PUBLISHED = Weights()
Losses = namedtuple('Losses', 'intra inter reg total')


class Moments(torch.autograd.Function):
    """Of z (..., B, D): the variance of its columns (..., D), and ZZ' / (B - 1) of the centred rows
    (..., B, B). The backward is one product, where autograd takes two and passes over z more often.
    """

    @staticmethod
    def forward(ctx, z):
        z = z - z.mean(-2, keepdim=True)
        ctx.save_for_backward(z)
        degrees = z.shape[-2] - 1
        return z.square().sum(-2) / degrees, z @ z.mT / degrees

    @staticmethod
    def backward(ctx, of_var, of_gram):
        (z,) = ctx.saved_tensors
        degrees = z.shape[-2] - 1
        symmetric = (of_gram + of_gram.mT) / degrees
        centred = symmetric - symmetric.mean(-2, keepdim=True)
        return (centred @ z).addcmul_(z, 2 / degrees * of_var[..., None, :])


def variance_covariance(z: torch.Tensor, weights: Weights = PUBLISHED) -> torch.Tensor:
    """Variance hinge + covariance of projections z (..., B, D), weighted; one value per leading
    index.

    With centred Z, ||Z'Z|| = ||ZZ'||: the off-diagonal covariances cost B*B*D work and B*B memory,
    not B*D*D and D*D.
    """
    var, gram = Moments.apply(z)
    off_diagonal = gram.square().sum((-2, -1)) - var.square().sum(-1)
    hinge = torch.relu(1 - torch.sqrt(var + 1e-4)).mean(-1)
    return weights.variance * hinge + weights.covariance * off_diagonal / z.shape[-1]


def umurl_objective(projections, weights: Weights = PUBLISHED) -> Losses:
    """Losses of the projections of the whole global batch, in float32.

    projections: 2k tensors (B, D), or one (2k, B, D): k uni-modal z's, then their k fused ones. k
    is 3 as published, or the number of modalities trained on. With k = 1, two views of the same
    kind, inter is 0.
    """
    z = (projections if torch.is_tensor(projections) else torch.stack(tuple(projections))).float()
    uni, fused = z.chunk(2)
    intra = len(uni) * mse_loss(uni, fused)  # the sum over modalities of the means over B and D
    # The mean needs no gradient: the differences from it sum to 0.
    centre = uni.mean(0, keepdim=True).detach()
    inter = len(uni) * mse_loss(uni, centre.expand_as(uni))
    reg = variance_covariance(z, weights).sum()
    return Losses(intra, inter, reg, weights.intra * intra + weights.inter * inter + reg)
