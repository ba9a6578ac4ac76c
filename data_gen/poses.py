"""Poses of any skeleton from array files and tables."""
import numpy as np

from data_gen.skeleton import BODIES, SkeletonError, energy

FARTHEST = 100  # metres; what goes beyond is in pixels or millimetres


def two_bodies(poses):
    """Poses (T, M, 25, 3) -> (3, T, 25, 2): its two liveliest bodies, the liveliest first, as in read_xyz."""
    bodies = np.zeros((max(poses.shape[1], BODIES), len(poses), *poses.shape[2:]))
    bodies[:poses.shape[1]] = poses.swapaxes(0, 1)
    liveliest = np.argsort([energy(body) for body in bodies])[::-1][:BODIES]
    return bodies[liveliest].transpose(3, 1, 2, 0)


def read_poses(path, joints):
    """The poses (T, M, J, 3) in an .npy, .npz or .csv of J joints; SkeletonError for any other content."""
    poses = read_numbers(path, joints) if path.lower().endswith('.csv') else read_array(path)
    if poses.dtype.kind not in 'iuf' or poses.ndim not in (3, 4) or poses.shape[-2:] not in ((joints, 3), (joints, 2)):
        raise SkeletonError(f'{poses.dtype} {poses.shape}, not numbers (frames, {joints}, 3 or 2) or '
                            f'(frames, bodies, {joints}, 3 or 2)')
    if not poses.any():
        raise SkeletonError('no body in any frame')
    poses = poses.astype(np.float64).reshape(len(poses), -1, *poses.shape[-2:])
    finite = np.isfinite(poses).all((1, 2, 3))
    if not finite.all():
        raise SkeletonError(f'frame {finite.argmin()} (from 0) is not finite; a body that is not seen is all zeros')
    if (farthest := np.abs(poses).max()) > FARTHEST:
        raise SkeletonError(f'coordinates go up to {farthest:g}: they must be metres, not pixels or millimetres')
    return np.pad(poses, ((0, 0), (0, 0), (0, 0), (0, 3 - poses.shape[-1])))


def read_array(path):
    """The array of an .npy; of an .npz the one named `joints`, or the first."""
    try:
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return loaded['joints' if 'joints' in loaded.files else loaded.files[0]]
    except Exception as error:  # a dozen kinds, from numpy, zipfile and zlib
        raise SkeletonError(f'cannot be read: {error}') from error


def read_numbers(path, joints):
    """The lines of a .csv (T, M, J, 3); the first may be a header."""
    rows = []
    try:
        with open(path, encoding='utf-8-sig', errors='replace') as file:
            for line, text in enumerate(file.read().rstrip().split('\n'), 1):
                try:
                    rows.append([float(cell) for cell in text.split(',')])
                except ValueError:
                    if line > 1 or text.startswith(tuple('+-.0123456789')):
                        raise SkeletonError(f'line {line}: not numbers with commas between') from None
    except OSError as error:
        raise SkeletonError(f'cannot be read: {error.strerror}') from error
    columns = {len(row) for row in rows}
    if len(columns) != 1 or max(columns) % (3 * joints):
        raise SkeletonError(f'{" or ".join(map(str, sorted(columns))) or "no"} columns, not {3 * joints} for each body')
    return np.array(rows).reshape(len(rows), -1, joints, 3)
