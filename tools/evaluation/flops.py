"""FLOPs of an encoder: 2 per multiply-add of the matrix products."""

import copy
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from feeder.modalities import MODALITIES
from model.umurl import Backbone
from tools.evaluation.late_fusion import Subset


def count_flops(work: Callable) -> int:
    """FLOPs of the matrix products in one call. Not every fused attention kernel is counted, so
    none is used.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def random_streams(
    backbone: Backbone, clips: int, device
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random streams in the shapes that the backbone takes: {modality: (temporal, spatial)}."""
    frame, trajectory = (
        mlp[0].in_features for mlp in (backbone.j_emb.t_embedding, backbone.j_emb.s_embedding)
    )
    shapes = (
        (clips, trajectory // 3, frame),
        (clips, frame // 3, trajectory),
    )  # three coordinates per joint
    return {
        modality: tuple(torch.randn(shape, device=device) for shape in shapes)
        for modality in MODALITIES
    }


def encode(backbone: Backbone, streams: dict, passes: list[Subset]) -> list[torch.Tensor]:
    return [
        backbone.encode({modality: streams[modality] for modality in modalities})
        for modalities in passes
    ]


def gflops_per_clip(backbone: Backbone, subsets: list[Subset]) -> dict[str, float]:
    """GFLOPs per clip of the pass of each subset, counted on the meta device, where only shapes
    count.
    """
    backbone = copy.deepcopy(backbone).to('meta')
    streams = random_streams(backbone, 1, 'meta')
    return {
        '+'.join(subset): count_flops(lambda subset=subset: encode(backbone, streams, [subset]))
        / 1e9
        for subset in subsets
    }
