"""Normalisation: the recorded arrays, a naive recomputation, and what must hold afterwards."""

import numpy as np
import pytest

from data_gen.preprocess import normalize, pre_normalization

SPINE, LEFT_SHOULDER, RIGHT_SHOULDER = 1, 4, 8


def naive_normalization(clip):
    """One recording (3, T, 25, 2), frame by frame and joint by joint, the plain way."""
    bodies = []
    for body in clip.transpose(3, 1, 2, 0).astype(np.float64):
        frames = list(body)
        if not frames[0].any():
            frames = [frame for frame in frames if frame.any()]
        while frames and not frames[-1].any():
            frames.pop()
        bodies.append([frames[t % len(frames)] if frames else body[t] for t in range(len(body))])
    bodies = np.array(bodies)
    for t in range(bodies.shape[1]):
        centre = bodies[0, t, SPINE].copy()
        for body in bodies:
            for joint in body[t]:
                if joint.any():
                    joint -= centre
    rotation = rotation_between(bodies[0, 0, RIGHT_SHOULDER] - bodies[0, 0, LEFT_SHOULDER])
    for joint in bodies.reshape(-1, 3):
        joint[:] = rotation @ joint
    return bodies.transpose(3, 1, 2, 0)


def rotation_between(line):
    """The rotation that takes the frame (line, axis, axis x line) to (x, axis, axis x x)."""
    x = np.array([1.0, 0, 0])
    axis = np.cross(line, x)
    if not axis.any():
        return np.eye(3)
    line, axis = line / np.linalg.norm(line), axis / np.linalg.norm(axis)
    return np.stack([x, axis, np.cross(axis, x)], 1) @ np.stack([line, axis, np.cross(axis, line)])


def made_clip(*present, seed=0):
    """A recording (3, T, 25, 2) with a body where its string has a 1; some joints of the first body
    are lost.
    """
    clip = np.random.default_rng(seed).normal(1, 1, (3, len(present[0]), 25, 2)).astype(np.float32)
    clip[:, ::2, [3, 17], 0] = 0
    for body, pattern in enumerate(present):
        clip[:, [mark == '0' for mark in pattern], :, body] = 0
    return clip


def padded(xyz, size):
    """(3, T, 25, 2) -> (3, size, 25, 2) float32: zeros behind a short recording, a long one is cut."""
    clip = np.zeros((3, size, 25, 2), np.float32)
    clip[:, : xyz.shape[1]] = xyz[:, :size]
    return clip


def test_recorded_arrays(recorded):
    data = recorded('data_gen')
    for index, name in enumerate(data['files']):
        normalized = normalize(data[f'xyz_{index}'])
        np.testing.assert_allclose(
            normalized, data['normalized'][index], rtol=0, atol=1e-6, err_msg=name
        )
        np.testing.assert_array_equal(
            pre_normalization(padded(data[f'xyz_{index}'], 300)[None])[0], normalized
        )


@pytest.mark.parametrize(
    'present',
    [
        ('1111111', '1111111'),
        ('1111111', '0000000'),
        ('1111000', '1100000'),
        ('1011010', '0110100'),
        ('0001101', '0000001'),
        ('0110100', '1111111'),
        ('1000000', '0100000'),
        ('0000000', '1111111'),
        ('1', '0'),
        ('0000000', '0000000'),
    ],
    ids='-'.join,
)
def test_equals_a_naive_recomputation(present):
    clip = made_clip(*present)
    normalized = pre_normalization(clip[None])
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized[0], naive_normalization(clip), rtol=0, atol=2e-6)


def test_a_batch_equals_its_recordings_and_leaves_them_alone():
    batch = np.stack([made_clip('111110', '011000', seed=seed) for seed in range(3)])
    before = batch.copy()
    assert (
        pre_normalization(batch)
        == np.concatenate([pre_normalization(clip[None]) for clip in batch])
    ).all()
    assert (batch == before).all()


def test_spine_at_the_origin_shoulders_along_x_shape_kept():
    clip = made_clip('1111111', '1111111')
    normalized = pre_normalization(clip[None])[0].transpose(3, 1, 2, 0)
    assert not normalized[0, :, SPINE].any()
    shoulders = normalized[0, 0, RIGHT_SHOULDER] - normalized[0, 0, LEFT_SHOULDER]
    assert shoulders[0] > 0
    assert np.abs(shoulders[1:]).max() < 1e-6
    before, after = (
        np.linalg.norm(bodies[:, :, [5, 6, 7]] - bodies[:, :, [9, 10, 11]], axis=-1)
        for bodies in (clip.transpose(3, 1, 2, 0), normalized)
    )
    np.testing.assert_allclose(after, before, atol=2e-6)


@pytest.mark.parametrize('line', [(1, 0, 0), (-1, 0, 0), (0, 0, 0)], ids=str)
def test_shoulders_that_need_no_rotation(line):
    clip = made_clip('11', '11')
    clip[:, 0, RIGHT_SHOULDER, 0] = clip[:, 0, LEFT_SHOULDER, 0] + np.float32(line)
    np.testing.assert_allclose(
        pre_normalization(clip[None])[0, :, :, 9, 1],
        clip[:, :, 9, 1] - clip[:, :, SPINE, 0],
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize('frames', [1, 3, 299, 300, 301, 500])
def test_a_recording_becomes_300_frames(frames):
    xyz = np.random.default_rng(0).normal(1, 1, (3, frames, 25, 2))
    xyz[:, :2, :, 1] = 0  # the second body comes later, so the two repeat with different periods
    clip = normalize(xyz)
    assert clip.shape == (3, 300, 25, 2)
    assert clip.dtype == np.float32
    np.testing.assert_allclose(clip, naive_normalization(padded(xyz, 300)), rtol=0, atol=2e-6)
