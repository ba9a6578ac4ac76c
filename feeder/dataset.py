"""A split's clips in memory: all valid frames one after another in one tensor, and where each clip starts."""
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch

from data_gen import manifest
from data_gen.cli import InputError, progress
from data_gen.preprocess import ALONG_Z, SPINE
from data_gen.reader import SplitReader

CLIPS_PER_CHUNK = 64  # read and transposed at a time: 12 MB


class ClipDataset:
    """One split of one benchmark; all tensors are on one device.

    frames (F, M, V, C) float32, metres: the valid frames of all clips, concatenated
    num_frames, start, labels (N,) int64: each clip's length, its first row in `frames`, its class
    names: N file names
    """

    def __init__(self, frames: torch.Tensor, num_frames: torch.Tensor, labels: torch.Tensor, names: list[str]):
        self.frames, self.num_frames, self.labels, self.names = frames, num_frames, labels, names
        self.start = num_frames.cumsum(0) - num_frames

    def __len__(self):
        return len(self.num_frames)

    def to(self, device: torch.device) -> 'ClipDataset':
        return ClipDataset(self.frames.to(device), self.num_frames.to(device), self.labels.to(device), self.names)


def load_split(folder: Path, split: str, quiet: bool = False) -> ClipDataset:
    """Load 'train' or 'val' from a folder of prepared arrays, in either layout.

    Raises InputError if a file is missing or damaged, a coordinate is not finite, or the arrays are not the ones the
    folder's manifest describes. Prints a warning if there is no manifest.
    """
    reader = SplitReader(folder, split)
    if not len(reader):
        raise InputError(f'{reader.file} holds no clips: this protocol has no {split} split here')
    frames = read_valid_frames(reader, quiet)
    digests = manifest.clip_digests(frames, reader.num_frames)
    known = manifest.check(folder, split, reader.names, reader.labels, reader.num_frames.tolist(), digests)
    if not known and not quiet:
        warn(f'warning: {folder} has no {manifest.NAME}, so nothing tells how its arrays were made. Arrays normalised '
             'differently can cost accuracy: check them with python -m tools.analysis.inspect_data')
        if is_upright(frames, reader.num_frames):
            warn(f'WARNING: in {folder} the spines stand along z, as CMD, HiCo and skeleton-contrast turn them. This '
                 'cannot be undone, and cost an official encoder 5 points: prepare the data with data_gen')
    return ClipDataset(torch.from_numpy(frames), torch.from_numpy(reader.num_frames), torch.tensor(reader.labels),
                       reader.names)


def is_upright(frames: np.ndarray, num_frames: np.ndarray) -> bool:
    """Whether most of 300 clips start with the spine of body 0 along z; frames (F, M, V, C)."""
    starts = (num_frames.cumsum() - num_frames)[np.linspace(0, len(num_frames) - 1, 300).astype(int)]
    spine = frames[starts, 0, SPINE] - frames[starts, 0, 0]
    return np.mean(spine[:, 2] > np.cos(np.radians(ALONG_Z)) * np.linalg.norm(spine, axis=1)) > 0.5


def read_valid_frames(reader: SplitReader, quiet: bool) -> np.ndarray:
    """All valid frames of a split (F, M, V, C) float32; InputError for a coordinate that is not finite."""
    ends = np.concatenate(([0], reader.num_frames.cumsum()))
    frames = np.empty((ends[-1], *reader.frames(0, 1).shape[1:]), np.float32)
    title = f'loading {reader.file.parent.name}/{reader.file.name}'
    for first in progress(range(0, len(reader), CLIPS_PER_CHUNK), title, leave=False, disable=quiet):
        last = min(first + CLIPS_PER_CHUNK, len(reader))
        chunk = frames[ends[first]:ends[last]]
        with np.errstate(over='ignore'):  # numbers too large for float32 become inf, which is refused below
            chunk[:] = reader.frames(first, last)
        finite = np.isfinite(chunk).all((1, 2, 3))
        if not finite.all():
            bad = np.searchsorted(ends, ends[first] + finite.argmin(), 'right') - 1
            raise InputError(f'{reader.file}: clip {bad} ({reader.names[bad]}) has coordinates that are not finite')
    return frames


@cache  # once per folder
def warn(text):
    print(text, file=sys.stderr)
