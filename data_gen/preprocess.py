"""Normalisation of recordings: gaps filled, the spine's middle at the origin, the shoulders along
x.
"""

import numpy as np

MAX_FRAME = 300
SPINE, LEFT_SHOULDER, RIGHT_SHOULDER = 1, 4, 8
# Degrees: 2s-AGCN's script leaves the spines of 99 % of IntelliRehabDS within 10 of z; here all are
# beyond 50.
ALONG_Z = 15


def pre_normalization(data: np.ndarray) -> np.ndarray:
    """Normalise padded recordings (N, 3, T, 25, 2); returns a new float32 array of the same shape.

    Computes what the official code does, without its loops over joints. The older 2s-AGCN script
    also turns the spine along z. We do not: a published encoder lost five points on such arrays.
    """
    if not len(data):
        return np.empty_like(data, np.float32)
    return np.stack([normalize(clip, clip.shape[1]) for clip in data])


def normalize(xyz: np.ndarray, size: int = MAX_FRAME) -> np.ndarray:
    """One recording (3, T, 25, 2) -> (3, size, 25, 2) float32: cut, or filled up by repetition."""
    kept = np.ascontiguousarray(xyz[:, :size].transpose(3, 1, 2, 0), np.float32)
    bodies = [compact(body) for body in kept]
    lengths = {len(body) for body in bodies} - {0}
    if not lengths:
        return np.zeros((3, size, *xyz.shape[2:]), np.float32)
    # Every frame is treated alike, so if the bodies repeat with the same period, one period is
    # enough to compute.
    period = lengths.pop() if len(lengths) == 1 else size
    bodies = np.stack([repeat(body, period) for body in bodies])
    present = bodies.sum(-1, keepdims=True) != 0
    bodies = (bodies - bodies[0, :, SPINE : SPINE + 1]) * present
    shoulders = bodies[0, 0, RIGHT_SHOULDER] - bodies[0, 0, LEFT_SHOULDER]
    bodies = bodies @ rotation_to_x(shoulders).T.astype(np.float32)
    return np.ascontiguousarray(repeat(bodies.swapaxes(0, 1), size).transpose(3, 0, 2, 1))


def repeat(frames, size):
    """`size` frames: the given ones (T, …) over and over, or zeros if there are none."""
    if not len(frames):
        return np.zeros((size, *frames.shape[1:]), frames.dtype)
    return frames[np.arange(size) % len(frames)]


def compact(body):
    """A body's frames (T, V, C) up to its last non-empty one; these are repeated to fill the rest.

    A body whose first frame is empty loses all its empty frames, so it shifts in time relative to
    the other body and to the frame count on disk. Kept on purpose: the official encoders were
    trained on such arrays.
    """
    seen = body.sum((1, 2)) != 0
    return body[: len(seen) - np.argmax(seen[::-1])] if seen[0] else body[seen]


def rotation_to_x(line):
    """The rotation (3, 3), about line x (1, 0, 0), that turns `line` along x; the identity if it is
    along x already.
    """
    x, y, z = np.asarray(line, np.float64).tolist()
    across = (y * y + z * z) ** 0.5
    if abs(y) + abs(z) < 1e-6:
        return np.eye(3)
    # Rodrigues' formula about the unit axis (0, z, -y) / across
    length = (across * across + x * x) ** 0.5
    cosine, sine_y, sine_z = x / length, y / length, z / length
    y, z = y / across, z / across
    return np.array(
        [
            [cosine, sine_y, sine_z],
            [-sine_y, 1 - (1 - cosine) * y * y, -(1 - cosine) * y * z],
            [-sine_z, -(1 - cosine) * y * z, 1 - (1 - cosine) * z * z],
        ]
    )
