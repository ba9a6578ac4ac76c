"""Joints to the three modalities, and each modality to the two streams the encoder reads."""

from functools import cache

import torch

from data_gen.skeleton import PARENTS

MODALITIES = ('joint', 'bone', 'motion')


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


def streams(x: torch.Tensor, modalities=MODALITIES) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Joints x (N, T, M, V, C) -> {modality: (temporal (N, T, M*V*C), spatial (N, M*V, T*C))}."""
    derive = {'joint': lambda x: x, 'bone': bone, 'motion': motion}
    pairs = {}
    for modality in modalities:
        view = derive[modality](x)
        pairs[modality] = view.flatten(2), view.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
    return pairs
