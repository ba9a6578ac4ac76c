"""Normalisation of recordings: gaps filled, the spine's middle at the origin, the shoulders along x."""
import numpy as np

MAX_FRAME = 300
SPINE, LEFT_SHOULDER, RIGHT_SHOULDER = 1, 4, 8


def pad(xyz):
    """(3, T, 25, 2) -> (3, 300, 25, 2) float32: zeros behind a short recording, a long one is cut."""
    clip = np.zeros((xyz.shape[0], MAX_FRAME, *xyz.shape[2:]), np.float32)
    clip[:, :xyz.shape[1]] = xyz[:, :MAX_FRAME]
    return clip


def pre_normalization(data):
    """Normalise padded recordings (N, 3, T, 25, 2); returns a new float32 array of the same shape.

    What the release computes, without its joint-by-joint loops. The older 2s-AGCN script also aligns the spine with z:
    not here, a published encoder lost five points on arrays made that way.
    """
    data = np.asarray(data, np.float32)
    normalized = np.empty_like(data)
    for clip, out in zip(data, normalized, strict=True):
        out[...] = normalize(clip.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)
    return normalized


def normalize(bodies):
    """One recording (M, T, V, C), bodies[0] the main one -> the same shape, float32."""
    bodies = np.ascontiguousarray(bodies, np.float32).copy()
    if not bodies.any():
        return bodies
    for body in bodies:
        fill_gaps(body)
    present = bodies.sum(-1, keepdims=True) != 0
    bodies = (bodies - bodies[0, :, SPINE:SPINE + 1]) * present
    shoulders = bodies[0, 0, RIGHT_SHOULDER] - bodies[0, 0, LEFT_SHOULDER]
    return (bodies @ rotation_to_x(shoulders).T).astype(np.float32)


def fill_gaps(body):
    """Fill a body's (T, V, C) empty tail in place by repeating what is before it, from the start.

    A body whose first frame is empty loses all its empty frames first. That moves it in time against the other body
    and against the frame count on disk; inherited from the release, whose encoders were trained on it.
    """
    seen = body.sum((1, 2)) != 0
    if not seen.any():
        return
    if not seen[0]:
        kept = body[seen]
        body[:len(kept)] = kept
        body[len(kept):] = 0
        seen = np.arange(len(body)) < len(kept)
    end = len(body) - np.argmax(seen[::-1])
    body[end:] = body[np.arange(len(body) - end) % end]


def rotation_to_x(line):
    """The rotation (3, 3) about line x (1,0,0) that makes `line` parallel to x; none for a line that already is."""
    line = np.asarray(line, np.float64)
    axis = np.array([0, line[2], -line[1]])  # line x (1, 0, 0)
    if np.abs(line).sum() < 1e-6 or np.abs(axis).sum() < 1e-6:
        return np.eye(3)
    sine, cosine = np.linalg.norm(axis) / np.linalg.norm(line), line[0] / np.linalg.norm(line)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + sine * cross + (1 - cosine) * cross @ cross  # Rodrigues
