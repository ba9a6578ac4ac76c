"""The modalities, each derived from the joints, and the two streams of each that the encoder reads.

To add a modality, write its function and add its row to MODALITIES.
"""

from functools import cache
from itertools import combinations

import torch

from data_gen.skeleton import PARENTS


def joint(x: torch.Tensor) -> torch.Tensor:
    """The joints themselves."""
    return x


def bone(x: torch.Tensor) -> torch.Tensor:
    """Each joint minus its parent; x (..., V, C)."""
    return x - x.index_select(-2, parents(x.device))


@cache
def parents(device: torch.device) -> torch.Tensor:
    """Each joint's parent (V,). A list as an index would be copied to the device in every step, and
    waited for.
    """
    return torch.tensor(PARENTS, device=device)


def motion(x: torch.Tensor) -> torch.Tensor:
    """The next frame minus this one, 0 for the last frame; x (N, T, M, V, C)."""
    return torch.cat((x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])), 1)


# Functions of joints (N, T, M, V, C) that keep their shape.
MODALITIES = {'joint': joint, 'bone': bone, 'motion': motion}


def subsets(modalities=MODALITIES) -> list[tuple[str, ...]]:
    """All subsets but the empty one, small ones first."""
    sizes = range(1, len(modalities) + 1)
    return [subset for size in sizes for subset in combinations(modalities, size)]


def streams(x: torch.Tensor, modalities=MODALITIES) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Joints x (N, T, M, V, C) -> {modality: (temporal (N, T, M*V*C), spatial (N, M*V, T*C))}."""
    pairs = {}
    for modality in modalities:
        view = MODALITIES[modality](x)
        temporal = view.flatten(2)  # (N, T, M*V*C)
        trajectories = view.permute(0, 2, 3, 1, 4)  # (N, M, V, T, C)
        spatial = trajectories.flatten(3).flatten(1, 2)  # (N, M*V, T*C)
        pairs[modality] = temporal, spatial
    return pairs
