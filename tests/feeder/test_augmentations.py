"""The augmentations, given their draws: the recorded views, and recomputations clip by clip."""

from itertools import count, takewhile

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from feeder.augmentations import (
    Draws,
    augment,
    corruption,
    joint_corruption,
    pose_augmentation,
    temporal_crop_resize,
    transform_joints,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def stack(arrays, name):
    """All recorded arrays `name`, with 0, 1, 2, … in place of its star, as one batch."""
    numbers = takewhile(lambda number: name.replace('*', str(number)) in arrays, count())
    return np.stack([arrays[name.replace('*', str(number))] for number in numbers])


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6, check_dtype=False)


def test_recorded_crops(recorded, ours):
    arrays = recorded('augmentation')
    _, start, length = torch.from_numpy(arrays['crop_args']).T
    assert_close(
        temporal_crop_resize(ours(arrays['clip']), start, length, 64), ours(arrays['crop_out'])
    )


def test_recorded_downstream_resize(recorded, ours):
    arrays = recorded('augmentation')
    length = torch.from_numpy(arrays['center_crop_frames'])
    assert_close(
        temporal_crop_resize(ours(arrays['clip']), torch.zeros_like(length), length, 64),
        ours(arrays['center_crop_full']),
    )


def test_recorded_joint_corruption(recorded, ours):
    arrays = recorded('augmentation')
    joints, matrix = (
        torch.from_numpy(stack(arrays, f'corrupt_*_{draw}')) for draw in ('joints', 'matrix')
    )
    assert len(joints) >= 3
    views = ours(arrays['view']).repeat(len(joints), 1, 1, 1, 1)
    assert_close(joint_corruption(views, joints, matrix), ours(stack(arrays, 'corrupt_*')))


def test_recorded_shear(recorded, ours):
    arrays = recorded('augmentation')
    matrix = torch.from_numpy(stack(arrays, 'shear_*_matrix'))
    assert len(matrix) >= 3
    views = ours(arrays['view']).repeat(len(matrix), 1, 1, 1, 1)
    assert_close(pose_augmentation(views, matrix), ours(stack(arrays, 'shear_*')))


@pytest.mark.parametrize(
    ('size', 'atol'), [(64, 4e-6), (7, 1e-4), (1, 1e-4)]
)  # length / 64 is exact in float32
def test_crop_resize_is_interpolation_of_each_clip(generator, size, atol):
    frames = torch.randn(700, 2, 25, 3, generator=generator)
    crops = [
        (0, 1),
        (699, 1),
        (3, 2),
        (50, 40),
        (636, 64),
        (100, 65),
        (17, 300),
        (0, 299),
        (400, 128),
        (0, 300),
    ]
    made = temporal_crop_resize(frames, *torch.tensor(crops).T, size)
    assert made.shape == (len(crops), size, 2, 25, 3)
    assert made.dtype == torch.float32
    for clip, (start, length) in zip(made, crops, strict=True):
        rows = frames[start : start + length].flatten(1).T[None]
        expected = interpolate(rows, size, mode='linear', align_corners=False)[0].T
        torch.testing.assert_close(clip.flatten(1), expected, rtol=0, atol=atol)


def test_a_crop_of_64_frames_is_a_copy(generator):
    frames = torch.randn(100, 2, 25, 3, generator=generator)
    assert temporal_crop_resize(frames, torch.tensor([20]), torch.tensor([64]), 64)[0].equal(
        frames[20:84]
    )


def test_joint_corruption_of_each_clip(random_clips, generator):
    x = random_clips(3)
    joints = torch.stack([torch.randperm(25, generator=generator)[:15] for _ in range(3)])
    matrix = torch.rand(3, 3, 3, generator=generator) * 2 - 1
    matrix[1] = 0
    made = joint_corruption(x, joints, matrix)
    expected = x.numpy().copy()
    for clip in range(3):
        for joint in joints[clip].tolist():
            expected[clip, :, :, joint] = expected[clip, :, :, joint] @ matrix[clip].numpy()
    assert_close(made, torch.from_numpy(expected))
    for clip in range(3):
        others = [joint for joint in range(25) if joint not in joints[clip]]
        assert made[clip, :, :, others].equal(x[clip, :, :, others])
    assert not made[1, :, :, joints[1]].any()


def test_shear_of_each_clip(random_clips, generator):
    x, matrix = random_clips(3), torch.rand(3, 3, 3, generator=generator) * 2 - 1
    expected = np.stack(
        [clip @ shear.T for clip, shear in zip(x.numpy(), matrix.numpy(), strict=True)]
    )
    assert_close(pose_augmentation(x, matrix), torch.from_numpy(expected))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_matrix_for_each_joint(random_clips, generator, dtype):
    x, matrices = random_clips(2).to(dtype), torch.randn(2, 25, 3, 3, generator=generator)
    made = transform_joints(x, matrices)
    assert made.dtype == dtype
    expected = torch.einsum('ntmvc,nvcd->ntmvd', x.double(), matrices.double())
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=5e-6)


def test_corruption_leaves_the_other_joints_the_identity(generator):
    matrix = torch.randn(1, 3, 3, generator=generator)
    matrices = corruption(torch.tensor([[0, 24, 7]]), matrix, 25)
    assert matrices.shape == (1, 25, 3, 3)
    for joint in range(25):
        assert matrices[0, joint].equal(matrix[0] if joint in (0, 24, 7) else torch.eye(3))


def test_a_view_is_the_transformed_crop(generator):
    frames = torch.randn(500, 2, 25, 3, generator=generator)
    first_row = torch.tensor([0, 100, 300])
    start, length = torch.tensor([[7, 0, 90], [80, 200, 64]])
    matrices = torch.randn(3, 25, 3, 3, generator=generator)
    made = augment(frames, first_row, Draws(start, length, matrices), 64)
    crops = temporal_crop_resize(frames, first_row + start, length, 64)
    assert made.equal(transform_joints(crops, matrices))
    assert (first_row.tolist(), start.tolist()) == ([0, 100, 300], [7, 0, 90])


def test_inputs_are_left_alone(random_clips, generator):
    x, matrix = random_clips(2), torch.randn(2, 3, 3, generator=generator)
    before = x.clone()
    pose_augmentation(x, matrix)
    joint_corruption(x, torch.zeros(2, 15, dtype=torch.long), matrix)
    temporal_crop_resize(x.flatten(0, 1), torch.tensor([3]), torch.tensor([70]), 64)
    assert x.equal(before)
