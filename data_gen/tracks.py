"""Makes clips of the tracks in own recordings: fills what is missing, joins what was torn apart, and
turns people towards the sensor. NTU RGB+D, PKU-MMD and their archives keep the official rules.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from data_gen.archives import OFF_GRID
from data_gen.joint_maps import SKELETONS, matrix, to_ntu
from data_gen.preprocess import LEFT_SHOULDER, MAX_FRAME, RIGHT_SHOULDER, SPINE
from data_gen.skeleton import JOINTS, two_liveliest

FPS = 30  # of NTU RGB+D
LONGEST_GAP = 10  # frames that a lost joint moves along a line; longer, it stays at the nearest
LATEST = 5  # frames after the end of one slot, in which another may go on with the person
NEAREST = 0.3  # metres between their spines


class Poses(NamedTuple):
    """The content of one recording."""

    bodies: np.ndarray  # (T, M, J, 3) in metres; NaN where a joint is not seen
    joints: str  # of SKELETONS
    axes: str  # of AXES: the user's, or the tool's
    seconds: np.ndarray | None = None  # (T,), when; None: 30 frames a second
    turn: bool = False  # people about y, to face the sensor


def seen_bodies(poses: np.ndarray) -> np.ndarray:
    """All bodies (K, J, 3) that are seen in poses (T, M, J, 3)."""
    return poses[np.isfinite(poses).any((2, 3))]


def extents(bodies: np.ndarray) -> np.ndarray:
    """How far bodies (…, J, 3) reach along each axis (…, 3)."""
    return np.nanmax(bodies, -2) - np.nanmin(bodies, -2)


def to_clip(poses: Poses) -> tuple[np.ndarray, dict]:
    """(one clip (3, T, 25, 2): the two bodies that move most, the liveliest first; notes {what was
    done: (how often, of how many)}).

    Frames before the first body and after the last do not count. SkeletonError for a joint that is
    never seen and that no rule replaces.
    """
    seen = np.isfinite(poses.bodies).all(3)
    frames = np.flatnonzero(seen.any((1, 2)))
    kept = slice(frames[0], frames[-1] + 1)
    tracks = fill(poses.bodies[kept]).swapaxes(0, 1)
    bodies = np.stack([map_track(track, poses.joints, poses.axes) for track in tracks])
    used = matrix(SKELETONS[poses.joints]).any(0)
    needed = seen.any(2, keepdims=True) & used
    missing = int((needed & ~seen).sum())
    outside = len(seen) - bodies.shape[1]
    notes = {
        'joints were missing and filled': (missing, int(needed.sum())),
        'frames before the first and after the last body were left out': (outside, len(seen)),
        'tracks went on in another slot and were joined': (join_slots(bodies), len(bodies)),
    }
    if poses.seconds is not None:
        bodies = resample(bodies, poses.seconds[kept])
    present = bodies.any((2, 3))
    if not bodies[present].sum(-1).all():  # normalisation takes a joint at the origin for missing
        bodies[present] += OFF_GRID
    xyz = two_liveliest(bodies)
    if poses.turn:
        xyz = turn_to_sensor(xyz)
    centre_second(*xyz.transpose(3, 1, 2, 0)[:, :MAX_FRAME])
    return xyz, notes


def fill(poses: np.ndarray) -> np.ndarray:
    """Poses (T, M, J, 3) without the gaps of bodies that are there; never seen joints stay NaN."""
    filled = poses.copy()
    seen = np.isfinite(poses).all(3)
    there = seen.any(2, keepdims=True)
    gaps = (there & ~seen).any(0)
    for body, joint in np.argwhere(gaps & seen.any(0)):
        times = np.flatnonzero(there[:, body])
        known = np.flatnonzero(seen[:, body, joint])
        before = known[np.searchsorted(known[1:], times, 'right')]
        after = known[np.searchsorted(known[:-1], times)]
        nearest = np.where(times - before <= after - times, before, after)
        places = np.where(after - before > LONGEST_GAP + 1, nearest, times)
        for axis in range(3):
            track = poses[known, body, joint, axis]
            filled[times, body, joint, axis] = np.interp(places, known, track)
    return filled


def map_track(track: np.ndarray, joints: str, axes: str) -> np.ndarray:
    """One filled body (T, J, 3) as NTU RGB+D's (T, 25, 3), zeros where it is not there."""
    seen = np.isfinite(track).all(2)
    there = seen.any(1)
    body = np.zeros((len(track), JOINTS, 3))
    if there.any():
        lost = np.array(SKELETONS[joints].names)[~seen.any(0)]
        body[there] = to_ntu(np.nan_to_num(track[there]), joints, axes, lost)
    return body


def join_slots(bodies: np.ndarray) -> int:
    """Bring each person of bodies (M, T, 25, 3) into one slot; returns how many slots that empties."""
    joined = 0
    order = np.argsort(bodies.any((2, 3)).argmax(1), kind='stable')
    for early, late in combinations(order, 2):
        if goes_on(bodies[early], bodies[late]):
            frames = bodies[late].any((1, 2))
            bodies[early, frames] = bodies[late, frames]
            bodies[late] = 0
            joined += 1
    return joined


def goes_on(early: np.ndarray, late: np.ndarray) -> bool:
    """Whether the track `late` (T, 25, 3) is a copy of `early`, or begins where that ends."""
    if not (early.any() and late.any()):
        return False
    after = np.flatnonzero(late.any((1, 2)))
    if (early[after] == late[after]).all():
        return True
    end, begin = np.flatnonzero(early.any((1, 2)))[-1], after[0]
    distance = np.linalg.norm(late[begin, SPINE] - early[end, SPINE])
    return 0 < begin - end <= LATEST and distance < NEAREST


def resample(bodies: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Bodies (M, T, 25, 3) of some seconds (T,) -> at 30 frames a second; none lies between a body
    and nothing.
    """
    times = np.arange(seconds[0], seconds[-1] + 0.001, 1 / FPS)
    share, before = np.modf(np.interp(times, seconds, np.arange(len(seconds))))
    before = before.astype(int)
    after = np.minimum(before + 1, len(seconds) - 1)
    seen = bodies.any((2, 3))
    share = np.where(seen[:, before] & seen[:, after], share, share.round())[..., None, None]
    return bodies[:, before] * (1 - share) + bodies[:, after] * share


def turn_to_sensor(xyz: np.ndarray) -> np.ndarray:
    """Turn a clip (3, T, 25, 2) about y, so that the first body's shoulders begin along x."""
    first = xyz[:, xyz[..., 0].any((0, 2)).argmax(), :, 0]
    x, _, z = first[:, RIGHT_SHOULDER] - first[:, LEFT_SHOULDER]
    angle = np.arctan2(z, x)
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.tensordot([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], xyz, 1)


def centre_second(first: np.ndarray, second: np.ndarray) -> None:
    """Move the second body (T, 25, 3), where the first is missing, by the first's last centre.

    Normalisation centres both by the first, and would leave the second where it is. A first body
    that comes late is another case: its empty frames are taken out.
    """
    seen = first.any((1, 2))
    if seen[0]:
        length = len(seen) - seen[::-1].argmax()  # after which normalisation repeats it
        frames = np.arange(len(seen)) % length
        last_seen = np.maximum.accumulate(np.arange(len(seen)) * seen)[frames]
        lacking = ~seen[frames] & second.any((1, 2))
        second[lacking] -= first[last_seen[lacking], SPINE][:, None]
