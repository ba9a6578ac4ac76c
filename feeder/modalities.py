"""Joints to the three modalities, and each modality to the two streams the encoder reads."""
import torch

from data_gen.skeleton import PARENTS

MODALITIES = ('joint', 'bone', 'motion')


def bone(x):
    """Each joint minus its parent; x (..., V, C)."""
    return x - x[..., PARENTS, :]


def motion(x):
    """The next frame minus this one, 0 at the last; x (N, T, M, V, C)."""
    return torch.cat((x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])), 1)


def streams(x, modalities=MODALITIES):
    """Joints x (N, T, M, V, C) -> {modality: (temporal (N, T, M*V*C), spatial (N, M*V, T*C))}."""
    derive = {'joint': lambda x: x, 'bone': bone, 'motion': motion}
    made = {}
    for modality in modalities:
        view = derive[modality](x)
        made[modality] = view.flatten(2), view.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
    return made
