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


class SkeletonError(InputError):
    """A recording that cannot be used, with the reason (and the line, where there is one)."""


def read_xyz(path):
    """Read a recording: (3, T, 25, 2) float64, metres, its two liveliest body slots, the liveliest first.

    A missing body is all zeros. Raises SkeletonError for a file that is not a whole recording with at least one body.
    """
    try:
        with open(path, encoding='latin-1') as file:
            lines = file.read().split('\n')
    except OSError as error:
        raise SkeletonError(f'cannot be read: {error.strerror}') from error
    frames, places, rows = joint_lines(lines)
    if not places:
        raise SkeletonError('no body in any frame')
    # The joints lie scattered in the text, so the columns x y z are parsed from their lines alone.
    try:
        xyz = np.loadtxt([lines[row] for row in rows], usecols=(0, 1, 2), comments=None, ndmin=2)
    except ValueError:
        xyz = None
    if xyz is None or len(xyz) != len(rows) or not np.isfinite(xyz).all():
        bad = next(row for row in rows if not is_joint(lines[row]))
        raise SkeletonError(f'line {bad + 1}: x y z are not three finite numbers')
    slots, times = np.array(places).T
    bodies = np.zeros((SLOTS, frames, JOINTS, 3))
    bodies[slots, times] = xyz.reshape(-1, JOINTS, 3)
    liveliest = np.argsort([energy(body) for body in bodies])[::-1][:BODIES]
    return bodies[liveliest].transpose(3, 1, 2, 0)


def joint_lines(lines):
    """Walk a recording's lines: the number of frames, a (slot, frame) per body kept, the line indices of its joints."""
    places, rows, cursor = [], [], 1
    frames = count(lines, 0, 'frames')
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
    if not (lines[index].strip().isdecimal() and lines[index].isascii()):
        raise SkeletonError(f'line {index + 1}: expected the number of {what}')
    return int(lines[index])


def is_joint(line):
    """Whether a line begins with three finite numbers."""
    try:
        return bool(line.strip()) and np.isfinite(np.loadtxt([line], usecols=(0, 1, 2), comments=None)).all()
    except ValueError:
        return False


def energy(body):
    """How much a body (T, 25, 3) moves: std of x + y + z over its non-empty frames (those whose sum is not 0)."""
    seen = body[body.sum((1, 2)) != 0]
    return seen.std((0, 1)).sum() if len(seen) else 0.0
