"""A split's clips in memory: all valid frames one after another in one tensor, and where each clip begins."""
import pickle
from pathlib import Path

import numpy as np
import torch

from data_gen.arrays import part_files
from data_gen.cli import InputError, progress
from data_gen.skeleton import JOINTS

ROWS_AT_ONCE = 64  # rows of the padded array turned round at a time: 12 MB


class ClipStore:
    """One part of one benchmark.

    frames (F, M, V, C) float32: the clips' valid frames one after another; start (N,) and length (N,) int64: where each
    clip begins, and its frames; labels (N,) int64; names, a list of N. All tensors lie on one device.
    """

    def __init__(self, frames, length, labels, names):
        self.frames, self.length, self.labels, self.names = frames, length, labels, names
        self.start = length.cumsum(0) - length

    def __len__(self):
        return len(self.length)

    def to(self, device):
        return ClipStore(self.frames.to(device), self.length.to(device), self.labels.to(device), self.names)


def load(folder, part, quiet=False):
    """Read the arrays `{part}_*` in `folder` (the published layout, from this project or another) as a ClipStore.

    Raises InputError where a file is missing, the counts disagree, or a coordinate is not finite.
    """
    folder = Path(folder)
    data_file, count_file, label_file = part_files(folder, part)
    data, length = read_array(data_file), read_array(count_file)
    names, labels = read_labels(label_file)
    if data.ndim != 5 or data.shape[1] != 3 or data.shape[3] != JOINTS or data.dtype.kind != 'f':
        raise InputError(f'{data_file}: expected (N, 3, T, {JOINTS}, M) floats, found {data.shape} {data.dtype}')
    if length.ndim != 1 or length.dtype.kind not in 'iu':
        raise InputError(f'{count_file}: expected (N,) whole numbers, found {length.shape} {length.dtype}')
    if not len(data) == len(length) == len(labels) == len(names):
        raise InputError(f'{folder}: {len(data)} clips, {len(length)} frame counts, {len(labels)} labels and '
                         f'{len(names)} names in the {part} part: prepare it again')
    if not len(data):
        raise InputError(f'{data_file} holds no clips: this protocol has no {part} part here')
    if length.min() < 1 or length.max() > data.shape[2]:
        worst = int(np.argmax((length < 1) | (length > data.shape[2])))
        raise InputError(f'{count_file}: clip {worst} ({names[worst]}) has {length[worst]} frames of {data.shape[2]}')
    frames = valid_frames(data, length, names, data_file, quiet)
    return ClipStore(frames, torch.from_numpy(length.astype(np.int64)), torch.tensor(labels), names)


def valid_frames(data, length, names, file, quiet):
    """(N, C, T, V, M) on disk -> (F, M, V, C): only the first length[n] frames of each row, one after another."""
    frames = torch.empty(int(length.sum()), data.shape[4], data.shape[3], data.shape[1])
    rows, done = frames.numpy(), 0
    blocks = range(0, len(data), ROWS_AT_ONCE)
    for first in progress(blocks, f'loading {file.parent.name}/{file.name}', leave=False, disable=quiet):
        counts = length[first:first + ROWS_AT_ONCE]
        valid = np.arange(counts.max()) < counts[:, None]
        block = data[first:first + ROWS_AT_ONCE, :, :counts.max()].transpose(0, 2, 4, 3, 1)[valid]
        rows[done:done + len(block)] = block
        finite = np.isfinite(rows[done:done + len(block)]).all((1, 2, 3))
        if not finite.all():
            bad = np.repeat(np.arange(len(counts)), counts)[~finite][0] + first
            raise InputError(f'{file}: clip {bad} ({names[bad]}) has coordinates that are not finite')
        done += len(block)
    return frames


def read_array(file):
    """An array file, coordinates by memory map."""
    if not file.is_file():
        raise InputError(f'{file} is not there: prepare the data first (README, "Prepare the data")')
    try:
        return np.load(file, mmap_mode='r' if file.stat().st_size > 1 << 20 else None)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f'{file} is not a numpy array file: {error}') from error


class PlainUnpickler(pickle.Unpickler):
    """Builds lists, tuples, strings and numbers, and nothing that could run code."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f'it asks for {module}.{name}')


def read_labels(file):
    """The names and the labels of a label file."""
    if not file.is_file():
        raise InputError(f'{file} is not there: prepare the data first (README, "Prepare the data")')
    try:
        with open(file, 'rb') as stream:
            names, labels = PlainUnpickler(stream, encoding='latin-1').load()
        return [str(name) for name in names], [int(label) for label in labels]
    except Exception as error:  # a damaged pickle can raise almost anything
        raise InputError(f'{file} is not a pickle of (names, labels): {error}') from error
