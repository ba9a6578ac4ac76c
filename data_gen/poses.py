"""Reads the arrays of custom_gendata.py (.npy, .npz, .csv), and finds out whether they mean what
they should.
"""

from pathlib import Path

import numpy as np

from data_gen.joint_maps import SKELETONS
from data_gen.skeleton import FARTHEST, PARENTS, SkeletonError

LARGEST = 20  # metres: a larger body is in another unit
OUTSIDE = 0.1  # of a picture, by keypoints whose x and y are scaled to 0..1
BONE_RATIO = 0.6  # see `bone_ratio`
SHORT_BONES = [2, 7, 11, 15, 19, 21, 22, 23, 24]  # by their outer joints: neck, hands, feet
LONG_BONES = [5, 6, 9, 10, 13, 14, 17, 18]  # arms and legs


def bone_ratio(poses: np.ndarray) -> float:
    """The mean length of the short bones of poses (T, M, 25, 3) beside that of the long ones.

    It is 0.16 to 0.39 in the 2,577 recordings of IntelliRehabDS (without z 0.12 to 0.41), and 0.24
    to 0.26 in the demo's. It is 2.3 if the joints are those of BODY_25, and about 1 if they are in
    random order. It is 0.7 to 1.3 in the recordings of tests/reference, too: their joints are at
    random places, so they get the warning.
    """
    seen = poses[poses.any((2, 3))]
    length = np.median(np.linalg.norm(seen - seen[:, list(PARENTS)], axis=-1), 0)
    return length[SHORT_BONES].mean() / length[LONG_BONES].mean()


def read_poses(path: str, skeleton: str, drop_score: bool = False) -> np.ndarray:
    """The poses (T, M, J, 3) in an .npy, .npz or .csv of SKELETONS[skeleton]; SkeletonError for any
    other content.
    """
    joints = len(SKELETONS[skeleton].names)
    return check_poses(
        read_numbers(path, joints) if path.lower().endswith('.csv') else read_array(path),
        skeleton,
        drop_score,
    )


def check_poses(poses: np.ndarray, skeleton: str, drop_score: bool = False) -> np.ndarray:
    """Poses (T, [M,] J, 3 or 2) of SKELETONS[skeleton] as (T, M, J, 3); SkeletonError for numbers
    that cannot be.
    """
    joints = len(SKELETONS[skeleton].names)
    if (
        poses.dtype.kind not in 'iuf'
        or poses.ndim not in (3, 4)
        or poses.shape[-2:] not in ((joints, 3), (joints, 2))
    ):
        raise SkeletonError(
            f'{poses.dtype} {poses.shape}, not numbers (frames, {joints}, 3 or 2) or '
            f'(frames, bodies, {joints}, 3 or 2){suggest(poses.shape)}'
        )
    if poses.ndim == 4 and (
        poses.shape[1] > 10 or poses.shape[1] > 2 and 0 < len(poses) < poses.shape[1]
    ):
        axes = (1, 3, 2, 0) if len(poses) == 3 and poses.shape[3] <= 2 else (1, 0, 2, 3)
        raise SkeletonError(
            f'{poses.shape} would be {poses.shape[1]} bodies in {len(poses)} frames; '
            f'array.transpose{axes} puts it in the order (frames, bodies, joints, 3)'
        )
    if drop_score:
        poses = poses[..., :2]
    if not poses.any():
        raise SkeletonError('no body in any frame')
    poses = poses.astype(np.float64).reshape(len(poses), -1, *poses.shape[-2:])
    finite = np.isfinite(poses).all((1, 2, 3))
    if not finite.all():
        raise SkeletonError(
            f'frame {finite.argmin()} (from 0) is not finite; a body that is not seen is all zeros'
        )
    check_numbers(poses)
    return np.pad(poses, ((0, 0), (0, 0), (0, 0), (0, 3 - poses.shape[-1])))


def suggest(shape: tuple) -> str:
    """Which --joints an array of another number of joints may have."""
    fitting = [
        f'{name} ({skeleton.origin})'
        for name, skeleton in SKELETONS.items()
        if len(shape) > 2 and shape[-1] in (2, 3) and len(skeleton.names) == shape[-2]
    ]
    return f'; {shape[-2]} joints need --joints {" or ".join(fitting)}' if fitting else ''


def check_numbers(poses: np.ndarray) -> None:
    """SkeletonError if poses (T, M, J, 3 or 2) have scores for z, or another unit than metres."""
    bodies = poses[poses.any((2, 3))]
    size, farthest = np.median(np.ptp(bodies, 1).max(1)), np.abs(poses).max()
    xy, third = poses[..., :2], poses[..., 2:]
    scaled = xy.min() >= -OUTSIDE and xy.max() <= 1 + OUTSIDE
    if third.any() and third.min() >= 0 and third.max() <= 1 and (scaled or size > LARGEST):
        raise SkeletonError(
            'the third number is always in 0 to 1, like a score, not a z in metres; --drop-score '
            'reads '
            'x and y only'
        )
    if size > LARGEST or farthest > FARTHEST:
        raise SkeletonError(
            f'a body measures {size:.1f} and coordinates go up to {farthest:.1f}: they must be '
            'metres. '
            'Divide millimetres by 1000 and centimetres by 100; scale pixels until people are 1.7 '
            'tall'
        )


def read_array(path: str) -> np.ndarray:
    """The array of an .npy; of an .npz the one named `joints`, or the first."""
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        return loaded['joints' if 'joints' in loaded.files else loaded.files[0]]


def read_numbers(path: str, joints: int) -> np.ndarray:
    """The lines of a .csv (T, M, J, 3); the first may be a header."""
    rows = []
    for line, text in enumerate(
        Path(path).read_text('utf-8-sig', 'replace').rstrip().split('\n'), 1
    ):
        try:
            rows.append([float(cell) for cell in text.split(',')])
        except ValueError:
            if line > 1 or text.startswith(tuple('+-.0123456789')):
                raise SkeletonError(f'line {line}: not numbers separated by commas') from None
    columns = {len(row) for row in rows}
    if len(columns) != 1 or max(columns) % (3 * joints):
        raise SkeletonError(
            f'{" or ".join(map(str, sorted(columns))) or "no"} columns, not {3 * joints} for each '
            'body'
        )
    return np.array(rows).reshape(len(rows), -1, joints, 3)
