"""The skeleton of NTU RGB+D, and the reader of its `.skeleton` text files."""
import numpy as np

from data_gen.cli import InputError

JOINTS = 25
# Each joint's parent, 0-based: the bone table of the release (its root, joint 20, is its own parent).
PARENTS = (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11)
# A recording keeps the first four body slots of a frame. A slot is a position in the frame, not a body id: when the
# sensor swaps two people their tracks swap too. Inherited from the release, on purpose: its arrays are made so.
SLOTS = 4
BODIES = 2
# What a damaged file may claim, and what is not believed: it could ask for any memory, or overflow float32 later on.
MOST_FRAMES = 100_000  # 55 minutes
REACH = 1e6  # metres


class SkeletonError(InputError):
    """A recording that cannot be used, with the reason (and the line, where there is one)."""


def read_xyz(path):
    """Read a recording: (3, T, 25, 2) float64, metres, its two liveliest body slots, the liveliest first.

    A missing body is all zeros; lines after the last announced frame are ignored, as in the release. Raises
    SkeletonError for a file that is not a whole recording with at least one body.
    """
    try:
        with open(path, encoding='latin-1') as file:
            lines = file.read().split('\n')
    except OSError as error:
        raise SkeletonError(f'cannot be read: {error.strerror}') from error
    frames, places, rows = joint_lines(lines)
    if not places:
        raise SkeletonError('no body in any frame')
    last = rows[-1]
    if last == len(lines) - 1 and len(lines[last].split()) < len(lines[last - 1].split()):
        raise SkeletonError(f'line {last + 1}: the file ends early')  # perhaps within one of the coordinates
    joints = [lines[row] for row in rows]
    xyz = coordinates(joints)
    if xyz is None:
        bad = rows[first_bad(joints)] + 1
        raise SkeletonError(f'line {bad}: x y z are not three finite numbers within {REACH:.0f} m')
    (slots, times), found = np.array(places).T, xyz.reshape(-1, JOINTS, 3)
    liveliest = np.argsort([energy(found[slots == slot]) for slot in range(SLOTS)])[::-1][:BODIES]
    bodies = np.zeros((BODIES, frames, JOINTS, 3))
    for body, slot in zip(bodies, liveliest, strict=True):
        body[times[slots == slot]] = found[slots == slot]
    return bodies.transpose(3, 1, 2, 0)


def joint_lines(lines):
    """Walk a recording's lines: the number of frames, a (slot, frame) per body kept, the line indices of its joints."""
    places, rows, cursor = [], [], 1
    frames = count(lines, 0, 'frames')
    if frames > MOST_FRAMES:
        raise SkeletonError(f'line 1: {frames} frames, more than the {MOST_FRAMES} that are believed')
    for frame in range(frames):
        bodies = count(lines, cursor, 'bodies')
        cursor += 1
        for slot in range(bodies):
            if count(lines, cursor + 1, 'joints') != JOINTS:
                raise SkeletonError(f'line {cursor + 2}: a body has {JOINTS} joints, not {lines[cursor + 1].strip()}')
            first, cursor = cursor + 2, cursor + 2 + JOINTS
            if cursor > len(lines):
                raise SkeletonError(f'line {len(lines)}: the file ends early')
            if slot < SLOTS:
                places.append((slot, frame))
                rows.extend(range(first, cursor))
    return frames, places, rows


def count(lines, index, what):
    """The whole number that stands alone on a line."""
    if index >= len(lines) or (index == len(lines) - 1 and not lines[index]):
        raise SkeletonError(f'line {len(lines)}: the file ends early')
    text = lines[index].strip()
    if not text.isdecimal() or len(text) > 12:  # int() fails on thousands of digits
        raise SkeletonError(f'line {index + 1}: expected the number of {what}')
    return int(text)


def coordinates(joints):
    """The columns x y z of joint lines (N, 3), parsed alone; None where one of them has not three usable numbers."""
    if not joints[0].strip():  # numpy passes over blank lines, and warns where there is nothing else
        return None
    try:
        xyz = np.loadtxt(joints, usecols=(0, 1, 2), comments=None, ndmin=2)
    except ValueError:
        return None
    return xyz if len(xyz) == len(joints) and (np.abs(xyz) < REACH).all() else None


def first_bad(joints):
    """The index of the first of some joint lines, not all usable, that is not; by halves, as parsing is slow."""
    low, high = 0, len(joints)
    while high - low > 1:
        middle = (low + high) // 2
        if coordinates(joints[low:middle]) is None:
            high = middle
        else:
            low = middle
    return low


def energy(body):
    """How much a body (T, 25, 3) moves: std of x + y + z over its non-empty frames (those whose sum is not 0)."""
    seen = body[body.sum((1, 2)) != 0]
    return seen.std((0, 1)).sum() if len(seen) else 0.0
