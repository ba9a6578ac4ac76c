"""Reads one split from disk, in either layout, written by this project or by another."""

import os
import sys
from pathlib import Path

import numpy as np

from data_gen.arrays import file_of, layout_of
from data_gen.plain_pickle import PlainUnpickler
from data_gen.skeleton import JOINTS
from tools.common.cli import InputError

ADVICE = 'prepare the data again (data_gen/README.md)'


class SplitReader:
    """One split of a folder. InputError names the file that is missing or damaged.

    names, labels: lists of N; num_frames (N,) int64: each clip's valid frames; data: the whole
    array, as it is on disk; shape: (F, M, V, C) of all valid frames.
    """

    def __init__(self, folder: Path, split: str):
        self.folder, self.split = Path(folder), split
        self.layout = layout_of(folder, split) or 'padded'
        self.file = file_of(folder, split, self.layout)
        self.counts_at = file_of(folder, split, 'counts')
        labels_at = file_of(folder, split, 'labels')
        if not labels_at.is_file() and labels_at.with_suffix('.npy').is_file():
            labels_at = labels_at.with_suffix('.npy')  # labels alone, without names
        for file in (self.file, self.counts_at, labels_at):
            if not file.is_file():
                raise InputError(
                    f'{file} is not there: prepare the data first (data_gen/README.md)'
                )
        self.data = np.asarray(read_array(self.file))
        counts = read_array(self.counts_at)
        if counts.ndim != 1 or counts.dtype.kind not in 'iu':
            raise InputError(
                f'{self.counts_at}: expected (N,) whole numbers, found {counts.shape} '
                f'{counts.dtype}'
            )
        self.num_frames = counts.astype(np.int64)
        self.names, self.labels = read_labels(labels_at)
        if self.layout == 'padded':
            self.check_shape('(N, 3, T, 25, M)', 5, {1: 3, 3: JOINTS})
            stored = np.full(len(self.data), self.data.shape[2])
        else:
            self.check_shape('(F, M, 25, 3)', 4, {2: JOINTS, 3: 3})
            stored = self.num_frames
            # (N + 1,): where each clip begins in the array
            self.offset = np.append(0, stored.cumsum())
            if stored.sum() != len(self.data):
                raise InputError(
                    f'{self.file}: {len(self.data)} frames, not {stored.sum()}: {ADVICE}'
                )
        self.check_counts(stored)
        bodies = self.data.shape[4 if self.layout == 'padded' else 1]
        self.shape = (int(self.num_frames.sum()), bodies, JOINTS, 3)

    def __len__(self) -> int:
        return len(self.num_frames)

    def check_shape(self, expected, dimensions, sizes):
        shape, dtype = self.data.shape, self.data.dtype
        if (
            dtype.kind != 'f'
            or len(shape) != dimensions
            or any(shape[axis] != size for axis, size in sizes.items())
        ):
            raise InputError(f'{self.file}: expected {expected} floats, found {shape} {dtype}')

    def check_counts(self, stored):
        """`stored` (N,): how many frames of each clip the array holds."""
        if not len(stored) == len(self.num_frames) == len(self.labels) == len(self.names):
            found = f'{len(self.num_frames)} frame counts, {len(self.labels)} labels and {len(self.names)} names'
            raise InputError(
                f'{self.folder}: {len(stored)} clips, {found} in the {self.split} split: {ADVICE}'
            )
        longer = self.num_frames > stored
        if self.layout == 'padded' and longer.any():
            print(
                f'note: {self.counts_at}: {longer.sum()} clips have more frames than the '
                f'{stored[0]} that are stored, and are cut',
                file=sys.stderr,
            )
            self.num_frames = np.minimum(self.num_frames, stored)
        wrong = (self.num_frames < 1) | (self.num_frames > stored)
        if wrong.any():
            clip = int(wrong.argmax())
            raise InputError(
                f'{self.counts_at}: clip {clip} ({self.names[clip]}) has {self.num_frames[clip]} '
                f'frames of {stored[clip]}'
            )

    def frames(self, clips) -> np.ndarray:
        """The valid frames of the clips with these indices (N,), one clip after another: (F, M, V,
        C) float32.
        """
        if self.layout == 'padded':
            found = [
                self.data[clip, :, : self.num_frames[clip]].transpose(1, 3, 2, 0) for clip in clips
            ]
        else:
            found = [self.data[self.offset[clip] :][: self.num_frames[clip]] for clip in clips]
        with np.errstate(over='ignore'):  # numbers too large for float32 become inf
            return np.concatenate(found, dtype=np.float32, casting='same_kind')

    def read_ahead(self, clips: np.ndarray) -> None:
        """Let the system read these clips (N,) at once. A memory map alone reads each when it is
        touched, and waits.
        """
        padded, row = self.layout == 'padded', self.data[0].nbytes
        start = (
            self.file.stat().st_size
            - self.data.nbytes
            + row * (clips if padded else self.offset[clips])
        )
        size = row * (np.ones_like(clips) if padded else self.num_frames[clips])
        if hasattr(os, 'posix_fadvise'):  # not on Windows and macOS
            with open(self.file, 'rb') as file:
                for clip in zip(start.tolist(), size.tolist(), strict=True):
                    os.posix_fadvise(file.fileno(), *clip, os.POSIX_FADV_WILLNEED)

    def finite_frames(self, clips) -> np.ndarray:
        """What `frames` returns; InputError for a coordinate that is not finite."""
        frames = self.frames(clips)
        finite = np.isfinite(frames).all((1, 2, 3))
        if not finite.all():
            bad = np.repeat(clips, self.num_frames[clips])[finite.argmin()]
            raise InputError(
                f'{self.file}: clip {bad} ({self.names[bad]}) has coordinates that are not finite'
            )
        return frames


def read_array(file: Path) -> np.ndarray:
    """The array of an .npy file, a large one by memory map."""
    try:
        return np.load(file, mmap_mode='r' if file.stat().st_size > 1 << 20 else None)
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(f'{file} is not a numpy array file ({error}): {ADVICE}') from error


def read_labels(file: Path) -> tuple[list[str], list[int]]:
    """The names and the labels of a label file; labels alone, an .npy file, get names by their
    number.
    """
    try:
        if file.suffix == '.npy':
            labels = read_array(file)
            names = [f'{file.stem} {index}' for index in range(len(labels))]
        else:
            with open(file, 'rb') as stream:
                names, labels = PlainUnpickler(stream, encoding='latin-1').load()
        labels, names = np.array([*labels]), texts(names)
    except Exception as error:  # a damaged pickle can raise almost anything
        raise InputError(f'{file} is not a pickle of (names, labels): {error}') from error
    return names, whole_labels(labels, file).tolist()


def texts(names) -> list[str]:
    """The names of clips, which Python 2 or numpy may have written as bytes."""
    return [
        name.decode('utf-8', 'replace') if isinstance(name, bytes) else str(name) for name in names
    ]


def whole_labels(labels: np.ndarray, file: Path | str) -> np.ndarray:
    """Labels (N,) or (N, 1) as (N,) int64; InputError, with the file, for any but whole numbers."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or len(labels) and labels.dtype.kind not in 'iuf':
        raise InputError(
            f'{file}: labels must be (N,) whole numbers, found {labels.shape} {labels.dtype}'
        )
    if (broken := ~np.isfinite(labels) | (labels != np.round(labels))).any():
        raise InputError(
            f'{file}: label {labels[broken][0]} of clip {broken.argmax()} is not a whole number'
        )
    return labels.astype(np.int64)
