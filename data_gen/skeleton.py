"""The skeleton of NTU RGB+D, and the reader of its `.skeleton` text files."""

from pathlib import Path

import numpy as np

from tools.common.cli import InputError

JOINTS = 25
# Each joint's parent, 0-based: the bone table of the official code (the root, joint 20, is its own
# parent).
PARENTS = (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11)
# A recording keeps the first four body slots of a frame. A slot is a position in the frame, not a
# body id: when the sensor swaps two people, their tracks swap too. Kept on purpose: the official
# arrays are like that.
SLOTS = 4
BODIES = 2
# Limits for damaged files, which could otherwise ask for any amount of memory, or overflow float32
# later on.
FRAME_LIMIT = 100_000  # 55 minutes
COORDINATE_LIMIT = 1e6  # metres
# Metres, in arrays of other projects and people: larger coordinates are in another unit.
FARTHEST = 100


class SkeletonError(InputError):
    """A recording that cannot be used, with the reason (and the line, where there is one)."""


def read_xyz(path) -> np.ndarray:
    """Read a recording: (3, T, 25, 2) float64, metres, its two body slots that move most, the
    liveliest first.

    A missing body is all zeros. Lines after the last frame are ignored, as in the official code.
    Raises SkeletonError for a file that is not a complete recording with at least one body.
    """
    try:
        lines = read_text(path).split('\n')
    except OSError as error:
        raise SkeletonError(f'cannot be read: {error.strerror}') from error
    if lines[0].startswith('\ufffdNUMPY'):
        raise SkeletonError(
            'an array, not .skeleton text: give the array itself, or prepare it by '
            'data_gen.custom_gendata and use --dataset custom'
        )
    num_frames, places, rows = joint_lines(lines)
    if not places:
        raise SkeletonError('no body in any frame')
    last = rows[-1]
    if last == len(lines) - 1 and len(lines[last].split()) < len(lines[last - 1].split()):
        # perhaps in the middle of a coordinate
        raise SkeletonError(f'line {last + 1}: the file ends early')
    xyz, bad = parse_numbers(
        [lines[row] for row in rows], 3, float, COORDINATE_LIMIT, usecols=(0, 1, 2)
    )
    if xyz is None:
        raise SkeletonError(
            f'line {rows[bad] + 1}: x y z are not three finite numbers within '
            f'{COORDINATE_LIMIT:.0f} m'
        )
    slots, times = np.array(places).T
    found = xyz.reshape(-1, JOINTS, 3)
    liveliest = np.argsort([energy(found[slots == slot]) for slot in range(SLOTS)])[::-1][:BODIES]
    bodies = np.zeros((BODIES, num_frames, JOINTS, 3))
    for body, slot in zip(bodies, liveliest, strict=True):
        body[times[slots == slot]] = found[slots == slot]
    return bodies.transpose(3, 1, 2, 0)


def read_text(path: str | Path) -> str:
    """A text file, with or without a byte order mark; what is not UTF-8 becomes \ufffd."""
    return Path(path).read_text('utf-8-sig', 'replace')


def read_recording(path) -> np.ndarray:
    """What `read_xyz` reads as (T, 2, 25, 3), with errors that name the file."""
    try:
        return read_xyz(path).transpose(1, 3, 2, 0)
    except SkeletonError as error:
        raise InputError(f'{path}: {error}') from error


def joint_lines(lines):
    """The number of frames, a (slot, frame) for each body that is kept, and the indices of its
    joints' lines.
    """
    places, rows, cursor = [], [], 1
    num_frames = read_count(lines, 0, 'frames')
    if num_frames > FRAME_LIMIT:
        raise SkeletonError(f'line 1: {num_frames} frames; at most {FRAME_LIMIT} can be read')
    for frame in range(num_frames):
        bodies = read_count(lines, cursor, 'bodies')
        cursor += 1
        for slot in range(bodies):
            if read_count(lines, cursor + 1, 'joints') != JOINTS:
                raise SkeletonError(
                    f'line {cursor + 2}: a body has {JOINTS} joints, not '
                    f'{lines[cursor + 1].strip()}'
                )
            first, cursor = cursor + 2, cursor + 2 + JOINTS
            if cursor > len(lines):
                raise SkeletonError(f'line {len(lines)}: the file ends early')
            if slot < SLOTS:
                places.append((slot, frame))
                rows.extend(range(first, cursor))
    return num_frames, places, rows


def read_count(lines, index, what):
    """The whole number that is alone on a line."""
    if index >= len(lines) or (index == len(lines) - 1 and not lines[index]):
        raise SkeletonError(f'line {len(lines)}: the file ends early')
    text = lines[index].strip()
    if not text.isdecimal() or len(text) > 12:  # int() fails on thousands of digits
        raise SkeletonError(f'line {index + 1}: expected the number of {what}')
    return int(text)


def parse_numbers(
    lines: list[str], columns: int, dtype=float, limit: float = np.inf, usecols=None
) -> tuple:
    """(the numbers of some lines (len(lines), columns), None), or (None, the index of the first
    unusable line).

    A usable line has `columns` finite numbers below `limit`, in the columns `usecols` if given.
    """

    def parse(lines):
        if not lines[0].strip():  # numpy skips blank lines, and warns if there is nothing else
            return None
        try:
            numbers = np.loadtxt(lines, dtype, usecols=usecols, comments=None, ndmin=2)
        except ValueError:
            return None
        usable = numbers.shape == (len(lines), columns) and (np.abs(numbers) < limit).all()
        return numbers if usable else None

    numbers = parse(lines)
    if numbers is not None:
        return numbers, None
    return None, next(index for index, line in enumerate(lines) if parse([line]) is None)


def two_liveliest(bodies: np.ndarray) -> np.ndarray:
    """Bodies (M, T, 25, 3) -> (3, T, 25, 2): the two that move most, the liveliest first; zeros
    where there is none.
    """
    bodies = np.pad(bodies, ((0, max(0, BODIES - len(bodies))), (0, 0), (0, 0), (0, 0)))
    liveliest = np.argsort([energy(body) for body in bodies])[::-1][:BODIES]
    return bodies[liveliest].transpose(3, 1, 2, 0)


def energy(body: np.ndarray) -> float:
    """How much a body (T, 25, 3) moves: the sum of the std of x, y and z over its frames whose sum
    is not 0.
    """
    seen = body[body.sum((1, 2)) != 0]
    return seen.std((0, 1)).sum() if len(seen) else 0.0
