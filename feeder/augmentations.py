"""The augmentations of pre-training, batched: pure functions of their random draws, which are made
further below.

Clips are (N, T, M, V, C). Both spatial augmentations are linear maps of single joints, so a mixed
batch of them is one (N, V, 3, 3) tensor of matrices and one product. Constants and laws are those
of the paper and the official code.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import embedding_bag

CORRUPTED_JOINTS = 15


class Laws(NamedTuple):
    """Constants of the draws; the defaults are the published ones. crop: shares of a clip, shear:
    off the diagonal.
    """

    crop: tuple = (0.1, 1.0)
    crop_frames: int = 64
    shear: float = 1.0


PUBLISHED = Laws()


def temporal_crop_resize(
    frames: torch.Tensor, start: torch.Tensor, length: torch.Tensor, size: int
) -> torch.Tensor:
    """Crop and resize clips along time, linearly, with half-pixel centres (`align_corners=False`).

    frames (F, M, V, C): many clips, concatenated; start, length (N,): the crops, in frames -> (N,
    size, M, V, C).
    """
    at = ((torch.arange(size, device=frames.device) + 0.5) * (length[:, None] / size) - 0.5).clamp_(
        min=0
    )
    lower = at.long()
    upper = torch.minimum(lower + 1, length[:, None] - 1)
    weight = at - lower
    rows = torch.stack((lower, upper), 2).add_(start[:, None, None]).view(-1, 2)
    # A weighted sum of two rows is what an embedding bag computes, in one pass over memory.
    weights = torch.stack((1 - weight, weight), 2).view(-1, 2).to(frames.dtype)
    resized = embedding_bag(rows, frames.flatten(1), per_sample_weights=weights, mode='sum')
    return resized.view(len(start), size, *frames.shape[1:])


def corruption_map(joints: torch.Tensor, matrix: torch.Tensor, num_joints: int) -> torch.Tensor:
    """Matrices (N, V, 3, 3) that apply `matrix` (N, 3, 3) to the drawn `joints` (N, J) and keep the
    others.
    """
    maps = torch.eye(3, dtype=matrix.dtype, device=matrix.device).repeat(
        len(joints), num_joints, 1, 1
    )
    maps[torch.arange(len(joints), device=matrix.device)[:, None], joints] = matrix[:, None]
    return maps


def apply_map(x: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Apply each joint's matrix: x (N, T, M, V, C), maps (N, V, 3, 3) -> p @ map.

    With joints and coordinates as one axis the maps form a band matrix with five diagonals. Five
    shifted products of whole rows are about ten times faster than a 3 x 3 product per joint.
    """
    maps, rows = maps.to(x.dtype), x.flatten(3).flatten(1, 2)  # (N, T*M, V*C)
    size = rows.shape[2]
    out = rows * diagonal(maps, 0)
    for shift in (-2, -1, 1, 2):
        first, last = max(0, -shift), size - max(0, shift)
        out[..., first:last].addcmul_(
            rows[..., first + shift : last + shift], diagonal(maps, shift)[..., first:last]
        )
    return out.view(x.shape)


def diagonal(maps, shift):
    """The factors (N, 1, V*3) for the coordinate `shift` places ahead; 0 where that belongs to
    another joint.
    """
    factors = torch.zeros(*maps.shape[:2], 3, dtype=maps.dtype, device=maps.device)
    factors[..., max(0, -shift) : 3 - max(0, shift)] = maps.diagonal(-shift, 2, 3)
    return factors.flatten(1)[:, None]


def joint_corruption(x: torch.Tensor, joints: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The drawn joints (N, 15) become p @ matrix (N, 3, 3), in all frames, both bodies; a zero
    matrix blanks them.
    """
    return apply_map(x, corruption_map(joints, matrix, x.shape[3]))


def pose_augmentation(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Shear: every joint becomes p @ matrix^T; matrix (N, 3, 3)."""
    return apply_map(x, matrix.mT[:, None].expand(-1, x.shape[3], -1, -1))


def uniform(
    *size: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Numbers of U(0, 1), on the generator's device."""
    return torch.rand(size, generator=generator, dtype=dtype, device=generator.device)


def draw_crops(
    num_frames: torch.Tensor,
    generator: torch.Generator,
    low: float = PUBLISHED.crop[0],
    high: float = PUBLISHED.crop[1],
    least: int = PUBLISHED.crop_frames,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a crop of each clip of num_frames (N,) frames: start and length (N,).

    length = clip(floor(num_frames * u), least, num_frames), u ~ U(low, high): clips of up to
    `least` frames are taken whole. The start is uniform over all that fit. Downstream the peers
    take low = 0.5 (CMD's options_classification.py).
    """
    u = uniform(len(num_frames), generator=generator) * (high - low) + low
    length = (num_frames * u).long().clamp(min=least).minimum(num_frames)
    along = uniform(len(num_frames), generator=generator, dtype=torch.float64)
    return (along * (num_frames - length + 1)).long(), length


def center_crops(num_frames: torch.Tensor, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre crop of each clip of num_frames (N,) frames: start and length (N,).

    start = floor((1 - ratio) * num_frames / 2) at both ends, in float64, as in `crop_subsequence`
    of the official code.
    """
    start = ((1 - ratio) * num_frames.double() / 2).long()
    return start, num_frames - 2 * start


def draw_joints(n: int, num_joints: int, generator: torch.Generator) -> torch.Tensor:
    """Draw 15 joints without replacement for each of n clips: (n, 15)."""
    return uniform(n, num_joints, generator=generator).argsort(1)[:, :CORRUPTED_JOINTS]


def draw_corruption_matrices(n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw (n, 3, 3): zero with probability 1/2, else entries of U(-1, 1)."""
    matrix = uniform(n, 3, 3, generator=generator) * 2 - 1
    return matrix * (uniform(n, 1, 1, generator=generator) < 0.5)


def draw_shear_matrices(
    n: int, generator: torch.Generator, shear: float = PUBLISHED.shear
) -> torch.Tensor:
    """Draw (n, 3, 3): unit diagonal, U(-shear, shear) elsewhere."""
    matrix = shear * (uniform(n, 3, 3, generator=generator) * 2 - 1)
    matrix.diagonal(0, 1, 2).fill_(1)
    return matrix


def draw_maps(
    n: int, num_joints: int, generator: torch.Generator, shear: float = PUBLISHED.shear
) -> torch.Tensor:
    """Draw the spatial augmentation of n clips, (n, V, 3, 3): corruption with probability 1/2, else
    shear.
    """
    joints, matrix = draw_joints(n, num_joints, generator), draw_corruption_matrices(n, generator)
    corruption, sheared = (
        corruption_map(joints, matrix, num_joints),
        draw_shear_matrices(n, generator, shear),
    )
    return torch.where(
        uniform(n, 1, 1, 1, generator=generator) < 0.5, corruption, sheared.mT[:, None]
    )
