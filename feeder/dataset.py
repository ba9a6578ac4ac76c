"""A split's clips: all valid frames one after another in one tensor, or on disk if memory is too
small for them.
"""

import math
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from data_gen import manifest
from data_gen.preprocess import ALONG_Z, SPINE
from data_gen.reader import SplitReader
from feeder.memory import free_memory
from tools.common.cli import InputError, progress

CLIPS_PER_CHUNK = 64  # read and transposed at a time: 12 MB
CLIPS_PER_PART = 1000  # of a mapped split: 50 MB


class ClipDataset:
    """One split of one benchmark; all tensors are on one device.

    frames (F, M, V, C) float32, metres: the valid frames of all clips, concatenated; of a mapped
        split the reader that brings them from disk when they are needed, and raises InputError for
        a coordinate that is not finite
    num_frames, start, labels (N,) int64: each clip's length, its first row in `frames`, its class
    names: N file names
    second_body (N,) bool, on the CPU: whether a clip has a second body, that is one number of it
    that is not zero. True for all clips of a mapped split, which are not read before they are used.
    """

    def __init__(
        self,
        frames,
        num_frames: torch.Tensor,
        labels: torch.Tensor,
        names: list[str],
        second_body: torch.Tensor | None = None,
    ):
        self.frames, self.num_frames, self.labels, self.names = frames, num_frames, labels, names
        self.start = num_frames.cumsum(0) - num_frames
        self.mapped = not torch.is_tensor(frames)
        self.second_body = self.find_second_body() if second_body is None else second_body

    def __len__(self):
        return len(self.num_frames)

    def find_second_body(self) -> torch.Tensor:
        if self.mapped or self.frames.shape[1] != 2:
            return torch.ones(len(self), dtype=torch.bool)
        seen = torch.linalg.vector_norm(self.frames[:, 1], math.inf, (1, 2)).bool().cpu()  # (F,)
        clip = torch.arange(len(self)).repeat_interleave(self.num_frames.cpu())  # (F,)
        second_body = torch.zeros(len(self), dtype=torch.bool)
        second_body[clip[seen]] = True
        return second_body

    def to(self, device: torch.device) -> 'ClipDataset':
        frames = self.frames if self.mapped else self.frames.to(device)
        return ClipDataset(
            frames,
            self.num_frames.to(device),
            self.labels.to(device),
            self.names,
            self.second_body,
        )

    def select(self, clips: torch.Tensor) -> 'ClipDataset':
        """The clips with these indices (N,), in this order, in memory."""
        num_frames = self.num_frames[clips]
        second_body = None
        if self.mapped:
            on_host = clips.cpu().numpy()
            self.frames.read_ahead(on_host)
            frames = torch.from_numpy(self.frames.finite_frames(on_host)).to(clips.device)
        else:
            rows = torch.repeat_interleave(
                self.start[clips] + num_frames - num_frames.cumsum(0), num_frames
            )
            frames = self.frames[rows.add_(torch.arange(len(rows), device=rows.device))]
            second_body = self.second_body[clips.cpu()]
        names = [self.names[clip] for clip in clips.tolist()]
        return ClipDataset(frames, num_frames, self.labels[clips], names, second_body)

    def parts(self) -> Iterator['ClipDataset']:
        """All clips, in order, in memory: this dataset, or many small ones if it is mapped."""
        clips = torch.arange(len(self), device=self.labels.device)
        return map(self.select, clips.split(CLIPS_PER_PART)) if self.mapped else iter([self])


def load_split(
    folder: Path, split: str, quiet: bool = False, data_device: str = 'auto'
) -> ClipDataset:
    """Load 'train' or 'val' from a folder of prepared arrays, in either layout, or map it, see
    `stays_on_disk`.

    Raises InputError if a file is missing or damaged, a coordinate is not finite, or the arrays are
    not the ones the folder's manifest describes. Prints a warning if there is no manifest.
    """
    reader = SplitReader(folder, split)
    if not len(reader):
        raise InputError(f'{reader.file} holds no clips: this protocol has no {split} split here')
    frames = digests = None
    if not stays_on_disk(reader, data_device, quiet):
        frames = read_valid_frames(reader, quiet)
        digests = manifest.clip_digests(frames, reader.num_frames)
    dataset = ClipDataset(
        reader if frames is None else torch.from_numpy(frames),
        torch.from_numpy(reader.num_frames),
        torch.tensor(reader.labels),
        reader.names,
    )
    known = manifest.check(
        folder, split, reader.names, reader.labels, reader.num_frames.tolist(), digests
    )
    if not known and not quiet:
        warn(
            f'warning: {folder} has no {manifest.NAME}, so nothing tells how its arrays were made. '
            'Arrays normalised '
            'differently can cost accuracy: check them with python -m tools.analysis.inspect_data'
        )
        if is_upright(dataset):
            warn(
                f'WARNING: in {folder} the spines stand along z, as CMD, HiCo and '
                'skeleton-contrast turn them. This '
                'cannot be undone, and cost an official encoder 5 points: prepare the data with '
                'data_gen'
            )
    return dataset


def stays_on_disk(reader: SplitReader, data_device: str, quiet: bool) -> bool:
    """Whether to map a split: data_device is disk, or auto and it takes half of the free memory. A
    note says so.
    """
    size, free = 4 * math.prod(reader.shape), free_memory()
    mapped = data_device == 'disk' or data_device == 'auto' and size > free / 2
    if mapped and not quiet:
        print(
            f'note: {reader.file} is read batch by batch ({size / 1e9:.1f} GB in memory, '
            f'{free / 1e9:.1f} GB free); '
            f'numbers that are not finite are still refused, but the hash in {manifest.NAME} is '
            'not checked',
            file=sys.stderr,
        )
    return mapped


def is_upright(dataset: ClipDataset) -> bool:
    """Whether most of 300 clips start with the spine of body 0 along z."""
    clips = dataset.select(torch.linspace(0, len(dataset) - 1, 300).long())
    spine = clips.frames[clips.start, 0, SPINE] - clips.frames[clips.start, 0, 0]
    along_z = spine[:, 2] > math.cos(math.radians(ALONG_Z)) * spine.norm(dim=1)
    return along_z.double().mean() > 0.5


def read_valid_frames(reader: SplitReader, quiet: bool) -> np.ndarray:
    """All valid frames of a split (F, M, V, C) float32; InputError for a coordinate that is not
    finite.
    """
    ends = np.append(0, reader.num_frames.cumsum())
    frames = np.empty(reader.shape, np.float32)
    title = f'loading {reader.file.parent.name}/{reader.file.name}'
    for first in progress(
        range(0, len(reader), CLIPS_PER_CHUNK), title, leave=False, disable=quiet
    ):
        last = min(first + CLIPS_PER_CHUNK, len(reader))
        frames[ends[first] : ends[last]] = reader.finite_frames(range(first, last))
    return frames


@cache  # once per folder
def warn(text):
    print(text, file=sys.stderr)
