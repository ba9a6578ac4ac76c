"""The two feeders: augmented views for pre-training, whole clips for everything downstream."""
from collections.abc import Iterator

import numpy as np
import torch

from feeder.augmentations import apply_map, draw_crops, draw_maps, temporal_crop_resize
from feeder.dataset import ClipDataset
from feeder.modalities import MODALITIES, streams
from feeder.prefetch import Resident

VIEW_FRAMES = 64


def generator_at(seed: int, epoch: int, step: int = 0, rank: int = 0) -> torch.Generator:
    """A CPU generator whose state depends on these numbers alone, so any step can be drawn again, on any device."""
    state = np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class PretrainFeeder:
    """Independently augmented views of each clip as streams: one view per modality, and one of all modalities.

    With `fused_only` there are two views instead, each of all modalities. `batch_size` is per process. An epoch visits
    each clip at most once, in an order that all processes agree on; the last incomplete global batch is left out.
    `source` brings the frames to the training device (see prefetch.py); by default they are where the dataset is.
    """

    def __init__(self, dataset: ClipDataset, batch_size: int, seed: int, rank: int = 0, world_size: int = 1,
                 modalities=MODALITIES, fused_only: bool = False, source=None):
        self.source = source or Resident(dataset, dataset.frames.device)
        self.modalities = modalities
        self.first_views = [modalities] if fused_only else [(modality,) for modality in modalities]
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.num_frames, self.num_joints = dataset.num_frames.cpu(), dataset.frames.shape[2]  # draws are on the CPU

    def __len__(self):
        return len(self.num_frames) // (self.batch_size * self.world_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[dict, dict]]:
        """Yield (uni, fused) for each step; see `batch`."""
        order = torch.randperm(len(self.num_frames), generator=generator_at(self.seed, epoch))
        batches = order.split(self.batch_size)[self.rank:len(self) * self.world_size:self.world_size][first_step:]
        for step, (clips, loaded) in enumerate(zip(batches, self.source.batches(batches), strict=True), first_step + 1):
            yield self.batch(clips, generator_at(self.seed, epoch, step, self.rank), loaded)

    def batch(self, clips: torch.Tensor, generator: torch.Generator, loaded=None) -> tuple[dict, dict]:
        """The streams of the clips with these indices (N,), augmented with draws from `generator`.

        Returns (uni, fused): uni {'joint': view 1, 'bone': view 2, 'motion': view 3}; fused has all three of view 4.
        """
        frames, start = loaded or next(self.source.batches([clips]))
        *views, last = self.views(frames, start, self.num_frames[clips], generator)
        uni = {}
        for view, modalities in zip(views, self.first_views, strict=True):
            uni |= streams(view, modalities)
        return uni, streams(last, self.modalities)

    def views(self, frames, first_row, num_frames, generator) -> tuple[torch.Tensor, ...]:
        """All views (N, 64, M, V, C) of clips that start at first_row (N,) of frames (F, M, V, C), on their device."""
        draws = [(*draw_crops(num_frames, generator), draw_maps(len(first_row), self.num_joints, generator))
                 for _ in range(len(self.first_views) + 1)]
        start, length, maps = (torch.cat(draw) for draw in zip(*draws, strict=True))
        start += first_row.repeat(len(draws))
        start, length, maps = (to_device(draw, frames.device) for draw in (start, length, maps))
        return apply_map(temporal_crop_resize(frames, start, length, VIEW_FRAMES), maps).chunk(len(draws))


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to the device; to a GPU from pinned memory, so the host does not wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else tensor.to(device)


def downstream_streams(dataset: ClipDataset, clips: torch.Tensor, modalities=MODALITIES) -> dict:
    """The streams of whole clips with these indices (N,): `[:num_frames]` resized to 64 frames, no randomness."""
    clips = clips.to(dataset.start.device)
    resized = temporal_crop_resize(dataset.frames, dataset.start[clips], dataset.num_frames[clips], VIEW_FRAMES)
    return streams(resized, modalities)


def downstream_batches(dataset: ClipDataset, batch_size: int, modalities=MODALITIES) -> Iterator[dict]:
    """Yield the streams of all clips of a dataset, in order; see `downstream_streams`."""
    for clips in torch.arange(len(dataset), device=dataset.start.device).split(batch_size):
        yield downstream_streams(dataset, clips, modalities)
