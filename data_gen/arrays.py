"""The two layouts on disk, one folder per benchmark, a train and a val part in each.

padded    {part}_data_joint.npy (N, 3, 300, 25, 2) float32: the published layout, which other projects read
trimmed   {part}_frame_joint.npy (F, 2, 25, 3) float32: only the frames that are read, one clip after another, and
          {part}_trimmed.npz: offset (N + 1,), period (N,), max_frame; from these the padded rows follow to the byte
both      {part}_num_frame.npy (N,) int64, {part}_label.pkl: a pickle of (names, labels)
"""
import os
import pickle
from pathlib import Path

import numpy as np

from data_gen.preprocess import MAX_FRAME
from data_gen.skeleton import BODIES, JOINTS

LAYOUTS = ('padded', 'trimmed')
ROW = (3, MAX_FRAME, JOINTS, BODIES)
FRAME = (BODIES, JOINTS, 3)


def data_file(folder, part, layout):
    return Path(folder) / f'{part}_{"data" if layout == "padded" else "frame"}_joint.npy'


def count_file(folder, part):
    return Path(folder) / f'{part}_num_frame.npy'


def label_file(folder, part):
    return Path(folder) / f'{part}_label.pkl'


def trim_file(folder, part):
    return Path(folder) / f'{part}_trimmed.npz'


def layout_of(folder, part):
    """The layout a part lies in, or None where there is no part."""
    return next((layout for layout in LAYOUTS if data_file(folder, part, layout).is_file()), None)


def remove_other_layout(folder, part, layout):
    """A part has one layout: the files of the other one go."""
    for other in set(LAYOUTS) - {layout}:
        data_file(folder, part, other).unlink(missing_ok=True)
    if layout == 'padded':
        trim_file(folder, part).unlink(missing_ok=True)


def trim(row, num_frame):
    """A padded row (3, T, 25, M) -> (frames (S, M, 25, 3), period): the frames to keep, and how the others follow.

    Frame t >= S of the row is frame t % period; with period 0 it is zero. S is num_frame, except for the few rows (two
    bodies that repeat with different periods) that have to be kept whole.
    """
    frames = np.ascontiguousarray(row.transpose(1, 3, 2, 0))
    bits = frames.reshape(len(frames), -1).view(np.uint32)
    rest = np.arange(num_frame, len(frames))
    if not bits[rest].any():
        return frames[:num_frame], 0
    for period in range(num_frame, 0, -1):
        again = rest % period
        if (bits[again[0]] == bits[num_frame]).all() and (bits[again] == bits[rest]).all():
            return frames[:num_frame], period
    return frames, len(frames)


def untrim(frames, period, max_frame=MAX_FRAME):
    """The inverse of `trim`: the padded row (3, max_frame, 25, M)."""
    row = np.zeros((max_frame, *frames.shape[1:]), frames.dtype)
    row[:len(frames)] = frames
    if period:
        row[len(frames):] = frames[np.arange(len(frames), max_frame) % period]
    return row.transpose(3, 0, 2, 1)


def write_header(file, shape):
    """Write the .npy header of a float32 array; its length does not depend on the number of rows. Returns it."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    size = 128 - len(np.lib.format.magic(1, 0)) - 2
    file.seek(0)
    file.write(np.lib.format.magic(1, 0) + size.to_bytes(2, 'little') + header.ljust(size - 1).encode() + b'\n')
    return file.tell()


def write_counts_and_labels(folder, part, num_frame, names, labels):
    with replacing(count_file(folder, part)) as file:
        np.save(file, np.array(num_frame, np.int64))
    with replacing(label_file(folder, part)) as file:
        pickle.dump((list(names), list(labels)), file)


def write_trimming(folder, part, stored, period, max_frame=MAX_FRAME):
    with replacing(trim_file(folder, part)) as file:
        np.savez(file, offset=np.cumsum([0, *stored]), period=np.array(period, np.int64), max_frame=max_frame)


class replacing:
    """`with replacing(path) as file`: a binary file under a temporary name that becomes `path` only once whole."""

    def __init__(self, path):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + '.part')

    def __enter__(self):
        self.file = open(self.partial, 'wb')
        return self.file

    def __exit__(self, failed, *_):
        self.file.close()
        if failed:
            self.partial.unlink()
        else:
            os.replace(self.partial, self.path)
