"""Reads the arrays of custom_gendata.py (.npy, .npz, .csv), and refuses those that cannot be poses in
metres.
"""

from pathlib import Path

import numpy as np

from data_gen.joint_maps import SKELETONS
from data_gen.meaning import MOST_WOBBLE, measure_bones, seen_bodies
from data_gen.plain_pickle import PlainUnpickler
from data_gen.skeleton import FARTHEST, SkeletonError

# Metres. People in IntelliRehabDS measure 0.8 to 1.87, whether they sit, stand or stretch.
SMALLEST, LARGEST = 0.3, 3
DIVIDED_TWICE = 0.03  # metres: smaller than people in a picture whose height is 1
UNITS = {
    'feet': 0.3048,
    'decimetres': 0.1,
    'inches': 0.0254,
    'centimetres': 0.01,
    'millimetres': 0.001,
}  # in metres
PICTURE = 1.5  # metres, the largest extent given to a body that is measured in pixels
USUAL = 1.4  # metres, the median in IntelliRehabDS
OUTSIDE = 0.1  # of a picture, by keypoints whose x and y are scaled to 0..1
FLAT = 30  # times as wide and high as deep: nobody is; at most 12 in IntelliRehabDS
ORIGINS = ('spine base', 'spine middle', 'spine top')  # where recordings may have their origin
NEAR = 1  # metres from an origin in the body to its other joints, in the median


def read_poses(
    path: str, skeleton: str, drop_score: bool = False, pixels: bool = False
) -> np.ndarray:
    """The poses (T, M, J, 3) in an .npy, .npz or .csv of SKELETONS[skeleton]; SkeletonError for any
    other content.
    """
    joints = len(SKELETONS[skeleton].names)
    return check_poses(
        read_numbers(path, joints) if path.lower().endswith('.csv') else read_array(path, joints),
        skeleton,
        drop_score,
        pixels,
    )


def check_poses(
    poses: np.ndarray, skeleton: str, drop_score: bool = False, pixels: bool = False
) -> np.ndarray:
    """Poses (T, [M,] J, 3 or 2) of SKELETONS[skeleton] as (T, M, J, 3) in metres; SkeletonError for
    numbers that cannot be. pixels: x and y are scaled first, and z is 0.
    """
    joints = len(SKELETONS[skeleton].names)
    if skeleton == 'mediapipe33':
        poses = find_landmarks(poses)
    if (
        poses.dtype.kind not in 'iuf'
        or poses.ndim not in (3, 4)
        or poses.shape[-2:] not in ((joints, 3), (joints, 2))
    ):
        raise SkeletonError(
            f'{poses.dtype} {poses.shape}, not numbers (frames, {joints}, 3 or 2) or '
            f'(frames, bodies, {joints}, 3 or 2){suggest(find_landmarks(poses).shape)}'
        )
    if poses.ndim == 4 and (
        poses.shape[1] > 10 or poses.shape[1] > 2 and 0 < len(poses) < poses.shape[1]
    ):
        axes = (1, 3, 2, 0) if len(poses) == 3 and poses.shape[3] <= 2 else (1, 0, 2, 3)
        raise SkeletonError(
            f'{poses.shape} would be {poses.shape[1]} bodies in {len(poses)} frames; '
            f'array.transpose{axes} puts it in the order (frames, bodies, joints, 3)'
        )
    if drop_score or pixels:
        poses = poses[..., :2]
    poses = poses.astype(np.float64)
    if not np.nan_to_num(poses[..., 2:]).any():  # no depth, or NaN for it
        poses = poses[..., :2]
    if poses.ndim == 3:
        poses = poses[:, None]
    numbers = np.where(poses == 0, np.nan, poses)
    if poses.shape[1] in (2, 3) and np.isfinite(numbers).any():
        wobbles = [measure_bones(each, skeleton)[2] for each in (numbers, numbers.swapaxes(1, 3))]
        if wobbles[1] < MOST_WOBBLE < wobbles[0]:
            raise SkeletonError(
                'each body seems to be one axis of all bodies; array.transpose(0, 3, 2, 1) puts it '
                'in the order (frames, bodies, joints, 3)'
            )
    lost = find_lost(poses, SKELETONS[skeleton].names)
    if lost.all():
        raise SkeletonError('no body in any frame')
    poses = np.pad(poses, ((0, 0), (0, 0), (0, 0), (0, 3 - poses.shape[-1])))
    poses[lost] = np.nan
    if pixels:
        poses *= metres_a_pixel(poses)
    check_numbers(poses)
    return poses


def metres_a_pixel(poses: np.ndarray) -> float:
    """The factor that makes the body seen most often in poses (T, M, J, 3) 1.5 m large, in the median
    of its frames.
    """
    frames = np.isfinite(poses).any((2, 3)).sum(0)
    body = seen_bodies(poses[:, [frames.argmax()]])
    sizes = (np.nanmax(body, 1) - np.nanmin(body, 1)).max(-1)
    size = np.median(sizes)
    if not size > 0:
        raise SkeletonError('a body is a single point: too few of its joints are seen')
    return PICTURE / size


def find_lost(poses: np.ndarray, names: tuple) -> np.ndarray:
    """Which joints (T, M, J) of poses (T, M, J, 3 or 2) are not seen: 0, -1 or NaN in all coordinates.

    The origin of root-centred recordings is seen: a joint of the spine that lies at 0, inside the
    body, in all frames or in the first.
    """
    flat = poses if np.nan_to_num(poses[..., 2:]).any() else poses[..., :2]
    lost = np.isnan(flat).any(-1) | (flat == 0).all(-1) | (flat == -1).all(-1)
    spine = np.isin(names, ORIGINS)
    for body, missing in zip(poses.swapaxes(0, 1), lost.swapaxes(0, 1), strict=True):
        there = np.flatnonzero(~missing.all(1))
        for frames in filter(len, (there, there[:1])):
            origin = (body[frames] == 0).all((0, 2)) & spine
            distance = np.nanmedian(np.linalg.norm(body[frames], axis=-1))
            if origin.sum() == 1 and distance < NEAR:
                missing[np.ix_(frames, origin)] = False
    return lost


def suggest(shape: tuple) -> str:
    """Which --joints an array of another number of joints may have."""
    fitting = [
        f'{name} ({skeleton.origin})'
        for name, skeleton in SKELETONS.items()
        if len(shape) > 2 and shape[-1] in (2, 3) and len(skeleton.names) == shape[-2]
        if skeleton.origin
    ]
    return f'; {shape[-2]} joints need --joints {" or ".join(fitting)}' if fitting else ''


def check_numbers(poses: np.ndarray) -> None:
    """SkeletonError if poses (T, M, J, 3) have scores for z, or another unit than metres."""
    bodies = seen_bodies(poses)
    extents = np.median(np.nanmax(bodies, 1) - np.nanmin(bodies, 1), 0)
    size, farthest = extents.max(), np.nanmax(np.abs(bodies))
    low, high = np.nanmin(bodies, (0, 1)), np.nanmax(bodies, (0, 1))
    in_picture = low[:2].min() >= -OUTSIDE and high[:2].max() <= 1 + OUTSIDE
    if size < (DIVIDED_TWICE if in_picture else SMALLEST):
        raise SkeletonError(
            f'a body measures {size:.2g}: was it divided twice? Coordinates must be metres'
        )
    if low[2] >= 0 and 0 < high[2] <= 1 and (in_picture or size > LARGEST):
        raise SkeletonError(
            'the third number is always in 0 to 1, like a score, not a z in metres; --drop-score '
            'reads x and y only (scale them until people are 1.7 tall)'
        )
    if in_picture and max(high[2], -low[2]) <= 1 + OUTSIDE:
        raise SkeletonError(
            'x and y are always in 0 to 1, like fractions of a picture; use world landmarks, or '
            'read two dimensions: x times its width, y times its height, then people of 1.7'
        )
    if size > max(LARGEST, FLAT * extents[2]) and extents[2]:
        raise SkeletonError(
            f'a body measures {size:.1f} by x and y, but {extents[2]:.1f} by z: divide x and y by '
            'what they were multiplied with (the width and height of the picture?)'
        )
    if size > LARGEST and not np.nan_to_num(bodies[..., 2]).any():
        raise SkeletonError(
            f'a body measures {size:.0f}, so these are pixels, not metres: --pixels scales them, as '
            f'does multiplying by about {PICTURE / size:.2g}'
        )
    if size > LARGEST or farthest > FARTHEST:
        unit = min(UNITS, key=lambda unit: abs(np.log(size * UNITS[unit] / USUAL)))
        raise SkeletonError(
            f'a body measures {size:.1f} and coordinates go up to {farthest:.1f}: they must be '
            f'metres. Multiply {unit} by {UNITS[unit]}; scale pixels until people are 1.7 tall'
        )


def find_landmarks(poses: np.ndarray) -> np.ndarray:
    """MediaPipe's 33 landmarks in an array: without visibility and presence, and FreeMoCap's, whose
    body comes before hands and face, in millimetres; any other array as it is.
    """
    if poses.shape[-2:] == (553, 3):
        return poses[..., :33, :] / 1000
    return poses[..., :3] if poses.shape[-2:] in ((33, 4), (33, 5)) else poses


def read_array(path: str, joints: int) -> np.ndarray:
    """The array of an .npy; of an .npz the one named `joints`, or the only one that fits."""
    try:
        loaded = np.load(path)
    except ValueError:
        if not (bodies := read_txt2npy(path)):
            raise
        return np.stack(bodies, 1)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        if 'joints' in loaded:
            return loaded['joints']
        fitting = [name for name in loaded if loaded[name].shape[-2:-1] == (joints,)]
        if len(fitting) > 1:
            raise SkeletonError(f'{", ".join(fitting)} may be poses: name one of them joints')
        return loaded[(fitting or loaded.files)[0]]


def read_txt2npy(path: str) -> list[np.ndarray]:
    """The bodies (T, 25, 3) in what NTU RGB+D's txt2npy.py makes of a .skeleton; none of others."""
    with open(path, 'rb') as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        content = PlainUnpickler(file).load().item()
    return [content[name] for name in sorted(content) if name.startswith('skel_body')]


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
