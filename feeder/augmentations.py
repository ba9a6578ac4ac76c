"""The augmentations of pre-training, batched: pure functions of their random draws, which are sampled
further below.

To add an augmentation, give its constants a field of Augmentation whose default changes nothing, and
a text in HELP; give its draw a field of Draws; draw it in `sample`, with a generator of its own, and
apply it in `augment`. Flag, checkpoint and the check on resuming follow, and no other draw changes.

Clips are (N, T, M, V, C). Both spatial augmentations are linear maps of single joints, so a mixed
batch of them is one tensor of matrices (N, V, 3, 3) and one product. The laws of the draws are those
of the paper and the official code.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import embedding_bag

CORRUPTED_JOINTS = 15


class Augmentation(NamedTuple):
    """Constants of the random draws; the defaults are the published ones."""

    crop: tuple = (0.1, 1.0)
    crop_frames: int = 64
    shear: float = 1.0


HELP = {
    'crop': 'shares of a clip between which the length of a crop is drawn',
    'crop_frames': 'minimum length of a crop, in frames',
    'shear': 'entries of a shear matrix are drawn from -X to X',
}
PUBLISHED = Augmentation()


class Draws(NamedTuple):
    """What was drawn for N clips. The first axis of every field counts the clips."""

    start: torch.Tensor  # (N,), the crop's first frame
    length: torch.Tensor  # (N,), in frames
    joint_matrices: torch.Tensor  # (N, V, 3, 3)


def augment(
    frames: torch.Tensor,
    first_row: torch.Tensor,
    draws: Draws,
    size: int,
    bodies: int | None = None,
) -> torch.Tensor:
    """Views (N, size, M, V, C) of N clips, each of which starts at first_row (N,) of frames
    (F, M, V, C); of the first `bodies` alone, if given.
    """
    x = temporal_crop_resize(frames, first_row + draws.start, draws.length, size, bodies)
    return transform_joints(x, draws.joint_matrices)


def temporal_crop_resize(
    frames: torch.Tensor,
    start: torch.Tensor,
    length: torch.Tensor,
    size: int,
    bodies: int | None = None,
) -> torch.Tensor:
    """Crop and resize clips along time, linearly, with half-pixel centres (`align_corners=False`).

    frames (F, M, V, C): many clips, concatenated; start, length (N,): the crops, in frames -> (N,
    size, M, V, C). bodies: 1 to make only the first; by default all.
    """
    num_bodies, *joint_shape = frames.shape[1:]
    bodies = bodies or num_bodies
    centres = torch.arange(size, device=frames.device) + 0.5
    position = (centres * (length[:, None] / size) - 0.5).clamp_(min=0)  # (N, size)
    lower = position.long()
    upper = torch.minimum(lower + 1, length[:, None] - 1)
    weight = position - lower
    # A weighted sum of two rows is what an embedding bag computes, in one pass over memory.
    rows = torch.stack((lower, upper), 2).add_(start[:, None, None]).view(-1, 2)  # (N*size, 2)
    weights = torch.stack((1 - weight, weight), 2).view(-1, 2).to(frames.dtype)  # (N*size, 2)
    table = frames.reshape(-1, bodies * math.prod(joint_shape))  # a frame's bodies are rows
    rows *= num_bodies // bodies
    resized = embedding_bag(rows, table, per_sample_weights=weights, mode='sum')
    return resized.view(len(start), size, bodies, *joint_shape)  # (N, size, M, V, C)


def transform_joints(x: torch.Tensor, joint_matrices: torch.Tensor) -> torch.Tensor:
    """Apply each joint's matrix: x (N, T, M, V, C), joint_matrices (N, V, 3, 3) -> p @ matrix.

    With joints and coordinates as one axis the matrices form a band matrix with five diagonals.
    Five shifted products of whole rows are about ten times faster than a 3 x 3 product per joint.
    """
    joint_matrices = joint_matrices.to(x.dtype)
    rows = x.flatten(3).flatten(1, 2)  # (N, T*M, V*C)
    size = rows.shape[2]
    out = rows * diagonal(joint_matrices, 0)
    for shift in (-2, -1, 1, 2):
        first = max(0, -shift)
        last = size - max(0, shift)
        factors = diagonal(joint_matrices, shift)[..., first:last]
        out[..., first:last].addcmul_(rows[..., first + shift : last + shift], factors)
    return out.view(x.shape)  # (N, T, M, V, C)


def diagonal(joint_matrices, shift):
    """The factors (N, 1, V*3) for the coordinate `shift` places ahead; 0 where that belongs to
    another joint.
    """
    num_clips, num_joints = joint_matrices.shape[:2]
    factors = joint_matrices.new_zeros(num_clips, num_joints, 3)
    first = max(0, -shift)
    last = 3 - max(0, shift)
    factors[..., first:last] = joint_matrices.diagonal(-shift, 2, 3)
    return factors.flatten(1)[:, None]  # (N, 1, V*3)


def joint_corruption(x: torch.Tensor, joints: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The drawn joints (N, 15) become p @ matrix (N, 3, 3), in all frames, both bodies; a zero
    matrix blanks them.
    """
    return transform_joints(x, corruption(joints, matrix, x.shape[3]))


def corruption(joints: torch.Tensor, matrix: torch.Tensor, num_joints: int) -> torch.Tensor:
    """Joint matrices (N, V, 3, 3): `matrix` (N, 3, 3) for the drawn `joints` (N, J), the identity
    for the others.
    """
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    joint_matrices = identity.repeat(len(joints), num_joints, 1, 1)  # (N, V, 3, 3)
    clips = torch.arange(len(joints), device=matrix.device)
    joint_matrices[clips[:, None], joints] = matrix[:, None]
    return joint_matrices


def pose_augmentation(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Shear: every joint becomes p @ matrix^T; matrix (N, 3, 3)."""
    return transform_joints(x, matrix.mT[:, None].expand(-1, x.shape[3], -1, -1))


def center_crops(num_frames: torch.Tensor, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre crop of each clip of num_frames (N,) frames: start and length (N,).

    start = floor((1 - ratio) * num_frames / 2) at both ends, in float64, as in `crop_subsequence`
    of the official code.
    """
    start = ((1 - ratio) * num_frames.double() / 2).long()
    return start, num_frames - 2 * start


def sample(
    num_frames: torch.Tensor,
    num_joints: int,
    generator_of: Callable[[str], torch.Generator],
    augmentation: Augmentation = PUBLISHED,
) -> Draws:
    """Draw a view of each clip of num_frames (N,) frames.

    generator_of(name): the generator of the draw of this name. Each draw has its own, so that a new
    one changes no other.
    """
    start, length = sample_crops(num_frames, generator_of('crop'), augmentation)
    joint_matrices = sample_joint_matrices(
        len(num_frames), num_joints, generator_of('joint_matrices'), augmentation
    )
    return Draws(start, length, joint_matrices)


def sample_crops(
    num_frames: torch.Tensor, generator: torch.Generator, augmentation: Augmentation = PUBLISHED
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a crop of each clip of num_frames (N,) frames: start and length (N,).

    length = clip(floor(num_frames * u), crop_frames, num_frames), u ~ U(low, high): clips of up to
    `crop_frames` frames are taken whole. The start is uniform over all that fit. Downstream the
    peers take low = 0.5 (CMD's options_classification.py).
    """
    low, high = augmentation.crop
    share = uniform(len(num_frames), generator=generator) * (high - low) + low
    length = (num_frames * share).long().clamp(min=augmentation.crop_frames).minimum(num_frames)
    along = uniform(len(num_frames), generator=generator, dtype=torch.float64)
    start = (along * (num_frames - length + 1)).long()
    return start, length


def sample_joint_matrices(
    n: int, num_joints: int, generator: torch.Generator, augmentation: Augmentation = PUBLISHED
) -> torch.Tensor:
    """Draw the spatial augmentation of n clips, (n, V, 3, 3): corruption with probability 1/2, else
    shear.
    """
    joints = sample_joints(n, num_joints, generator)
    corrupted = corruption(joints, sample_corruption_matrices(n, generator), num_joints)
    sheared = sample_shear_matrices(n, generator, augmentation).mT[:, None]  # (n, 1, 3, 3)
    is_corrupted = uniform(n, 1, 1, 1, generator=generator) < 0.5
    return torch.where(is_corrupted, corrupted, sheared)


def sample_joints(n: int, num_joints: int, generator: torch.Generator) -> torch.Tensor:
    """Draw 15 joints without replacement for each of n clips: (n, 15)."""
    return uniform(n, num_joints, generator=generator).argsort(1)[:, :CORRUPTED_JOINTS]


def sample_corruption_matrices(n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw (n, 3, 3): zero with probability 1/2, else entries of U(-1, 1)."""
    matrix = uniform(n, 3, 3, generator=generator) * 2 - 1
    is_kept = uniform(n, 1, 1, generator=generator) < 0.5
    return torch.where(is_kept, matrix, 0)


def sample_shear_matrices(
    n: int, generator: torch.Generator, augmentation: Augmentation = PUBLISHED
) -> torch.Tensor:
    """Draw (n, 3, 3): unit diagonal, U(-shear, shear) elsewhere."""
    matrix = augmentation.shear * (uniform(n, 3, 3, generator=generator) * 2 - 1)
    matrix.diagonal(0, 1, 2).fill_(1)
    return matrix


def uniform(
    *size: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Numbers of U(0, 1), on the generator's device."""
    return torch.rand(size, generator=generator, dtype=dtype, device=generator.device)
