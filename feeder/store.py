"""A split's clips in memory: all valid frames one after another in one tensor, and where each clip begins."""
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch

from data_gen import manifest
from data_gen.cli import InputError, progress
from data_gen.reader import PartReader

CLIPS_AT_ONCE = 64  # read and turned round at a time: 12 MB


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

    def in_precision(self, dtype):
        return ClipStore(self.frames.to(dtype), self.length, self.labels, self.names)


def load(folder, part, quiet=False):
    """Read a part of a folder of arrays, in either layout, as a ClipStore.

    Raises InputError where a file is missing, the counts disagree, a coordinate is not finite, or the folder's manifest
    is of other arrays. A folder without a manifest is only warned of.
    """
    reader = PartReader(folder, part)
    if not len(reader):
        raise InputError(f'{reader.file} holds no clips: this protocol has no {part} part here')
    frames = torch.from_numpy(valid_frames(reader, quiet))
    known = manifest.check(folder, part, reader.names, reader.labels, reader.num_frame.tolist(), frames.numpy())
    if not known and not quiet:
        warn(Path(folder))
    return ClipStore(frames, torch.from_numpy(reader.num_frame), torch.tensor(reader.labels), reader.names)


def valid_frames(reader, quiet):
    """All valid frames of a part (F, M, V, C) float32; InputError for a coordinate that is not finite."""
    frames, done = None, 0
    blocks = range(0, len(reader), CLIPS_AT_ONCE)
    what = f'loading {reader.file.parent.name}/{reader.file.name}'
    for first in progress(blocks, what, leave=False, disable=quiet):
        with np.errstate(over='ignore'):  # what is too large for float32 becomes inf, and is found below
            block = reader.frames(first, first + CLIPS_AT_ONCE).astype(np.float32, copy=False)
        finite = np.isfinite(block).all((1, 2, 3))
        if not finite.all():
            counts = reader.num_frame[first:first + CLIPS_AT_ONCE]
            bad = first + np.repeat(np.arange(len(counts)), counts)[~finite][0]
            raise InputError(f'{reader.file}: clip {bad} ({reader.names[bad]}) has coordinates that are not finite')
        if frames is None:
            frames = np.empty((int(reader.num_frame.sum()), *block.shape[1:]), np.float32)
        frames[done:done + len(block)] = block
        done += len(block)
    return frames


@cache  # once for a folder
def warn(folder):
    print(f'warning: {folder} has no {manifest.NAME}, so nothing says how its arrays were made; made another way '
          'they can cost points (tools/inspect_data.py looks at them)', file=sys.stderr)
