"""Reads the field's archives: single rows of an .npz that does not fit in memory, and pickles of
numpy arrays.
"""

import shutil
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen.plain_pickle import PlainUnpickler
from data_gen.skeleton import BODIES, FARTHEST, JOINTS, SkeletonError, two_liveliest
from tools.common.cli import InputError
from tools.common.files import replacing
from tools.common.locks import folder_lock

UNPACKED = 'unpacked_{}.npy'  # {}: the checksum, which lets a resumed run use the file again
# Metres, added to whole bodies; normalisation centres them again.
OFF_GRID = (0.0123457, 0.0234561, 0.0345679)


class Member(NamedTuple):
    """An array that lies uncompressed in `file` from the byte `offset` on: alone, or inside an
    .npz.
    """

    file: str
    offset: int
    shape: tuple
    dtype: np.dtype
    order: str

    def row(self, index: int) -> np.ndarray:
        return np.memmap(self.file, self.dtype, 'r', self.offset, self.shape, self.order)[index]


def find_member(archive: zipfile.ZipFile, name: str, folder: Path) -> Member:
    """The array `name` of an .npz; a compressed one is unpacked to `folder` first."""
    path, info = Path(archive.filename), archive.getinfo(f'{name}.npy')
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = getattr(np.lib.format, f'read_array_header_{version[0]}_0')(stream)
        header = stream.tell()
    if len(shape) != 3 or not shape[1] or shape[2] != BODIES * JOINTS * 3 or dtype.kind != 'f':
        raise InputError(
            f'{path}: {name} is {dtype} {shape}, not floats (clips, frames, {BODIES * JOINTS * 3})'
        )
    if info.file_size != header + int(np.prod(shape)) * dtype.itemsize:
        raise InputError(f'{path}: {name} is incomplete; download or copy the file again')
    if info.compress_type == zipfile.ZIP_STORED:
        with open(path, 'rb') as file:
            file.seek(info.header_offset + 26)
            start = info.header_offset + 30 + sum(struct.unpack('<HH', file.read(4)))
    else:
        path, start = folder / UNPACKED.format(f'{info.CRC:08x}'), 0
        with folder_lock({folder}):
            if not path.is_file():
                print(
                    f'{name} is compressed: unpacking {info.file_size / 1e9:.1f} GB to {path}, '
                    'deleted at the end'
                )
                with archive.open(info) as stream, replacing(path) as file:
                    shutil.copyfileobj(stream, file, 1 << 20)
    return Member(str(path), start + header, shape, dtype, 'F' if fortran else 'C')


def read_one_hot(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The labels `name` (N, classes) of an .npz; InputError for a row that is not one-hot."""
    with archive.open(f'{name}.npy') as stream:
        one_hot = np.lib.format.read_array(stream, allow_pickle=False)
    if one_hot.ndim != 2 or one_hot.dtype.kind not in 'fiub':
        raise InputError(
            f'{archive.filename}: {name} is {one_hot.dtype} {one_hot.shape}, not one-hot (clips, '
            'classes)'
        )
    wrong = (np.count_nonzero(one_hot, 1) != 1) | (one_hot.sum(1) != 1)
    if wrong.any():
        raise InputError(
            f'{archive.filename}: row {wrong.argmax()} (from 0) of {name} is not one-hot'
        )
    return one_hot


def read_row(member: Member, index: int, keep_order: bool, path: str) -> list:
    """A job's read: one clip of an .npz, up to its last frame that is not all zero, as (3, T, 25,
    2).
    """
    frames = member.row(index).astype(np.float64)
    length = len(frames) - np.argmax(frames[::-1].any(1))
    bodies = frames[:length].reshape(length, BODIES, JOINTS, 3).swapaxes(0, 1)
    if (bodies[0] == bodies[1]).all():  # NTU-120: a single body stands in both slots
        bodies[1] = 0
    # NTU's origin lies in the body, so x + y + z of a joint can be 0 by chance, which means missing
    if not keep_order:
        bodies[bodies.any((2, 3))] += OFF_GRID
    return [to_clip(bodies, keep_order, f'row {index} (from 0)')]


def read_keypoint(keypoint: np.ndarray, name: str, path: str) -> list:
    """A job's read: one clip of a pickle, from its keypoint (M, T, 25, 3), up to the last body."""
    length = keypoint.shape[1] - np.argmax(keypoint.any((0, 2, 3))[::-1])
    return [to_clip(keypoint[:, :length].astype(np.float64), False, name)]


def to_clip(bodies: np.ndarray, keep_order: bool, name: str) -> np.ndarray:
    """Bodies (M, T, 25, 3) -> (3, T, 25, 2): the two that move most, the liveliest first.
    SkeletonError has the `name`.

    keep_order: as prepared from raw PKU-MMD, the bodies keep their order, unless the first is never
    there.
    """
    if not np.isfinite(bodies).all():
        raise SkeletonError(f'{name}: not all coordinates are finite')
    if not bodies.any():
        raise SkeletonError(f'{name}: no body in any frame')
    if (farthest := np.abs(bodies).max()) > FARTHEST:
        raise SkeletonError(f'{name}: coordinates go up to {farthest:g}: they must be metres')
    if keep_order:
        return (bodies if bodies[0].any() else bodies[::-1]).transpose(3, 1, 2, 0)
    return two_liveliest(bodies)


def read_annotations(path: Path) -> tuple[dict, dict]:
    """({name: (keypoint (M, T, 25, 3), label)}, {split: names}) of a pickle of pyskl's kind, read
    whole; T as its total_frames, if it has them.
    """
    try:
        with open(path, 'rb') as file:
            content = PlainUnpickler(file, encoding='latin-1').load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise InputError(f'{path} cannot be read ({type(error).__name__}): {error}') from error
    if not isinstance(content, dict):
        raise InputError(
            f'{path} holds a {type(content).__name__}, where pyskl writes a dict with split and '
            'annotations'
        )
    try:
        clips = {
            str(each['frame_dir']): (
                np.asarray(each['keypoint'])[:, : each.get('total_frames')],
                int(each['label']),
            )
            for each in content['annotations']
        }
        splits = {str(split): list(map(str, names)) for split, names in content['split'].items()}
    except Exception as error:
        raise InputError(
            f'{path}: not as pyskl writes it, with split and annotations of frame_dir, label and '
            f'keypoint ({type(error).__name__}: {error})'
        ) from error
    for name, (keypoint, _) in clips.items():
        if keypoint.ndim != 4 or keypoint.shape[2:] != (JOINTS, 3) or keypoint.dtype.kind != 'f':
            raise InputError(
                f'{path}: the keypoint of {name} is {keypoint.dtype} {keypoint.shape}, not floats '
                f'(bodies, frames, {JOINTS}, 3)'
            )
    return clips, splits
