"""The augmentations of pre-training, batched. Each is a pure function given its random draws; the draws stand below.

Clips are (N, T, M, V, C). The spatial augmentations are linear maps of single joints, so a batch of them, of both
kinds, is one (N, V, 3, 3) tensor of matrices and one product.
"""
import torch
from torch.nn.functional import embedding_bag

CROP_MIN_RATIO, CROP_MIN_FRAMES = 0.1, 64
CORRUPTED_JOINTS = 15


def temporal_crop_resize(frames, start, length, size):
    """Crop and resize clips along time, linearly, with half-pixel centres (`align_corners=False`).

    frames (F, M, V, C): many clips one after another; start, length (N,): the crops, in frames -> (N, size, M, V, C).
    """
    at = (torch.arange(size, device=frames.device) + 0.5) * (length[:, None] / size) - 0.5
    at = at.clamp_(min=0)
    lower = at.long()
    upper = torch.minimum(lower + 1, length[:, None] - 1)
    weight = at - lower
    rows = torch.stack((lower, upper), 2).add_(start[:, None, None]).view(-1, 2)
    if frames.dtype in (torch.float16, torch.bfloat16):  # a way to store clips; they are computed with in float32
        resized = torch.lerp(*frames.flatten(1)[rows].float().unbind(1), weight.view(-1, 1))
    else:  # a weighted sum of two rows is what an embedding bag computes, in one pass over memory
        weights = torch.stack((1 - weight, weight), 2).view(-1, 2).to(frames.dtype)
        resized = embedding_bag(rows, frames.flatten(1), per_sample_weights=weights, mode='sum')
    return resized.view(len(start), size, *frames.shape[1:])


def corruption_map(joints, matrix, num_joints):
    """Matrices (N, V, 3, 3) that apply `matrix` (N, 3, 3) to the drawn `joints` (N, J) and leave the others alone."""
    eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    maps = eye.repeat(len(joints), num_joints, 1, 1)
    maps[torch.arange(len(joints), device=matrix.device)[:, None], joints] = matrix[:, None]
    return maps


def apply_map(x, maps):
    """Apply to each joint its matrix: x (N, T, M, V, C), maps (N, V, 3, 3) -> p @ map.

    With joints and coordinates as one axis the maps are a band matrix of five diagonals, so the product is five
    shifted products of whole rows: an order faster than as many products with a 3 x 3 matrix as there are joints.
    """
    maps, rows = maps.to(x.dtype), x.flatten(3).flatten(1, 2)  # (N, T*M, V*C)
    size = rows.shape[2]
    out = rows * diagonal(maps, 0)
    for shift in (-2, -1, 1, 2):
        first, last = max(0, -shift), size - max(0, shift)
        out[..., first:last].addcmul_(rows[..., first + shift:last + shift], diagonal(maps, shift)[..., first:last])
    return out.view(x.shape)


def diagonal(maps, shift):
    """The factors (N, 1, V*3) of the coordinate `shift` places further on; 0 where that is another joint's."""
    factors = torch.zeros(*maps.shape[:2], 3, dtype=maps.dtype, device=maps.device)
    factors[..., max(0, -shift):3 - max(0, shift)] = maps.diagonal(-shift, 2, 3)
    return factors.flatten(1)[:, None]


def joint_corruption(x, joints, matrix):
    """The drawn joints (N, 15) become p @ matrix (N, 3, 3), in all frames, both bodies; a zero matrix blanks them."""
    return apply_map(x, corruption_map(joints, matrix, x.shape[3]))


def pose_augmentation(x, matrix):
    """Shear: every joint becomes p @ matrix^T; matrix (N, 3, 3)."""
    return apply_map(x, matrix.mT[:, None].expand(-1, x.shape[3], -1, -1))


def draw_crops(num_frame, generator):
    """Start and length (N,) of a crop of each clip of num_frame (N,) frames.

    length = floor(num_frame * u) held in [64, num_frame], u ~ U(0.1, 1); shorter clips whole; start uniform.
    """
    u = torch.rand(len(num_frame), generator=generator) * (1 - CROP_MIN_RATIO) + CROP_MIN_RATIO
    length = (num_frame * u).long().clamp(min=CROP_MIN_FRAMES).minimum(num_frame)
    start = (torch.rand(len(num_frame), generator=generator, dtype=torch.float64) * (num_frame - length + 1)).long()
    return start, length


def draw_joints(n, num_joints, generator):
    """15 of the joints without replacement for each of n clips: (n, 15)."""
    return torch.rand(n, num_joints, generator=generator).argsort(1)[:, :CORRUPTED_JOINTS]


def draw_corruption_matrices(n, generator):
    """(n, 3, 3): zero with probability 1/2, else entries of U(-1, 1)."""
    matrix = torch.rand(n, 3, 3, generator=generator) * 2 - 1
    return matrix * (torch.rand(n, 1, 1, generator=generator) < 0.5)


def draw_shear_matrices(n, generator):
    """(n, 3, 3): unit diagonal, U(-1, 1) elsewhere."""
    matrix = torch.rand(n, 3, 3, generator=generator) * 2 - 1
    return matrix.masked_fill_(torch.eye(3, dtype=torch.bool), 1)


def draw_maps(n, num_joints, generator):
    """The spatial augmentation of n clips as matrices (n, V, 3, 3): corruption with probability 1/2, else shear."""
    joints, matrix = draw_joints(n, num_joints, generator), draw_corruption_matrices(n, generator)
    corruption = corruption_map(joints, matrix, num_joints)
    shear = draw_shear_matrices(n, generator).mT[:, None]
    return torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.5, corruption, shear)
