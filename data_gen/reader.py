"""One part as it lies on disk, in either layout, from this project or another: opened and checked, read in blocks."""
import pickle
from pathlib import Path

import numpy as np

from data_gen.arrays import count_file, data_file, label_file, layout_of, trim_file, untrim
from data_gen.cli import InputError
from data_gen.skeleton import JOINTS

MENDING = 'prepare the data again (README, "Prepare the data")'


class PartReader:
    """names, labels: lists of N; num_frame (N,) int64; max_frame: the frames of a padded row. InputError if damaged."""

    def __init__(self, folder, part):
        self.folder, self.part = Path(folder), part
        self.layout = layout_of(folder, part) or 'padded'
        self.file = data_file(folder, part, self.layout)
        self.data = read_array(self.file)
        self.num_frame = read_counts(count_file(folder, part))
        self.names, self.labels = read_labels(label_file(folder, part))
        if self.layout == 'padded':
            self.check_shape('(N, 3, T, 25, M)', 5, {1: 3, 3: JOINTS})
            self.max_frame, rows = self.data.shape[2], len(self.data)
        else:
            self.check_shape('(F, M, 25, 3)', 4, {2: JOINTS, 3: 3})
            trimming = read_array(trim_file(folder, part))
            if not {'offset', 'period', 'max_frame'} <= trimming.keys():
                raise InputError(f'{trim_file(folder, part)}: not offset, period and max_frame: {MENDING}')
            self.offset, self.period = trimming['offset'], trimming['period']
            self.max_frame, rows = int(trimming['max_frame']), len(self.offset) - 1
        self.check_counts(rows)

    def __len__(self):
        return len(self.num_frame)

    def check_shape(self, wanted, dimensions, sizes):
        shape = self.data.shape
        floats = self.data.dtype.kind == 'f'
        if not floats or len(shape) != dimensions or any(shape[axis] != size for axis, size in sizes.items()):
            raise InputError(f'{self.file}: expected {wanted} floats, found {shape} {self.data.dtype}')

    def check_counts(self, rows):
        if not rows == len(self.num_frame) == len(self.labels) == len(self.names):
            raise InputError(f'{self.folder}: {rows} clips, {len(self.num_frame)} frame counts, {len(self.labels)} '
                             f'labels and {len(self.names)} names in the {self.part} part: {MENDING}')
        wrong = (self.num_frame < 1) | (self.num_frame > self.max_frame)
        if self.layout == 'trimmed':
            wrong |= np.diff(self.offset) < self.num_frame
            if self.offset[-1] != len(self.data):
                raise InputError(f'{self.file}: {len(self.data)} frames, not {self.offset[-1]}: {MENDING}')
        if wrong.any():
            worst = int(wrong.argmax())
            raise InputError(f'{count_file(self.folder, self.part)}: clip {worst} ({self.names[worst]}) has '
                             f'{self.num_frame[worst]} frames of {self.max_frame}')

    def frames(self, first, last):
        """The valid frames of clips first to last - 1, one clip after another: (F, M, V, C)."""
        counts = self.num_frame[first:last]
        if self.layout == 'padded':
            valid = np.arange(counts.max()) < counts[:, None]
            return self.data[first:last, :, :counts.max()].transpose(0, 2, 4, 3, 1)[valid]
        offset = self.offset[first:last + 1]
        within = np.arange(offset[-1] - offset[0]) - np.repeat(offset[:-1] - offset[0], np.diff(offset))
        return self.data[offset[0]:offset[-1]][within < np.repeat(counts, np.diff(offset))]

    def row(self, index):
        """Clip `index` as a padded row (C, T, V, M)."""
        if self.layout == 'padded':
            return self.data[index]
        return untrim(self.data[self.offset[index]:self.offset[index + 1]], self.period[index], self.max_frame)


def read_counts(file):
    """The frame counts of a part (N,) int64."""
    counts = read_array(file)
    if counts.ndim != 1 or counts.dtype.kind not in 'iu':
        raise InputError(f'{file}: expected (N,) whole numbers, found {counts.shape} {counts.dtype}')
    return counts.astype(np.int64)


def read_array(file):
    """An array file; large ones by memory map."""
    if not file.is_file():
        raise InputError(f'{file} is not there: prepare the data first (README, "Prepare the data")')
    try:
        array = np.load(file, mmap_mode='r' if file.stat().st_size > 1 << 20 else None)
        return dict(array) if file.suffix == '.npz' else array
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(f'{file} is not a numpy array file ({error}): {MENDING}') from error


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
