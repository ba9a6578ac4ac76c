"""The two feeders: augmented views for pre-training, whole clips for everything downstream."""

from collections.abc import Iterator

import numpy as np
import torch

from feeder.augmentations import (
    PUBLISHED,
    Laws,
    apply_map,
    draw_crops,
    draw_maps,
    temporal_crop_resize,
)
from feeder.dataset import ClipDataset
from feeder.modalities import MODALITIES, streams
from feeder.prefetch import frames_source

VIEW_FRAMES = 64


def generator_at(
    seed: int, epoch: int, step: int = 0, device: torch.device | str = 'cpu'
) -> torch.Generator:
    """A generator of this device whose state depends on these numbers alone, so any step can be
    drawn again.
    """
    state = np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class PretrainFeeder:
    """Independently augmented views of each clip as streams: one view per modality, and one of all
    modalities.

    With `fused_only` there are two views instead, each of all modalities. `batch_size` is per
    process. Order and draws are those of the global batch, whatever the number of processes; each
    process takes its share of both. An epoch visits every clip, so its last batch may be smaller.
    As in the official code, the first clips of the order come again at its end if the processes'
    shares would not be equal. A last batch of one clip, for which BatchNorm has no variance, is
    left out. `source` brings the frames to the training device (see prefetch.py); by default they
    are where the dataset is.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        modalities=MODALITIES,
        fused_only: bool = False,
        source=None,
        laws: Laws = PUBLISHED,
    ):
        self.source = source or frames_source(dataset, dataset.labels.device)
        self.modalities, self.laws = modalities, laws
        self.first_views = [modalities] if fused_only else [(modality,) for modality in modalities]
        self.global_batch, self.seed, self.rank, self.world_size = (
            batch_size * world_size,
            seed,
            rank,
            world_size,
        )
        self.num_frames, self.num_joints = dataset.num_frames.cpu(), dataset.frames.shape[2]

    def __len__(self):
        full, rest = divmod(len(self.num_frames), self.global_batch)
        return full + (rest > 1)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[dict, dict]]:
        """Yield (uni, fused) for each step from `first_step` on, counted from 0; see `batch`."""
        order = torch.randperm(len(self.num_frames), generator=generator_at(self.seed, epoch))
        order = torch.cat((order, order[: -len(order) % self.world_size]))
        steps, device = slice(first_step, len(self)), self.source.device
        # Copied to a GPU once for all steps: the host would wait for each copy.
        num_frames = self.num_frames[order].to(device).split(self.global_batch)[steps]
        clips = order.to(self.source.index_device).split(self.global_batch)[steps]
        loaded = self.source.batches(map(self.share, clips))
        for step, (batch, frames) in enumerate(
            zip(loaded, num_frames, strict=True), first_step + 1
        ):
            yield self.batch(*batch, frames, generator_at(self.seed, epoch, step, device))

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a global batch (N, ...)."""
        return batch.chunk(self.world_size)[self.rank]

    def batch(self, frames, first_row, num_frames, generator) -> tuple[dict, dict]:
        """The streams of the augmented views of this process's clips; arguments as in `views`.

        Returns (uni, fused): uni {'joint': view 1, 'bone': view 2, 'motion': view 3}; fused has all
        three of view 4.
        """
        *views, last = self.views(frames, first_row, num_frames, generator)
        uni = {}
        for view, modalities in zip(views, self.first_views, strict=True):
            uni |= streams(view, modalities)
        return uni, streams(last, self.modalities)

    def draws(self, num_frames: torch.Tensor, generator: torch.Generator) -> list[tuple]:
        """Of each view, start and length (N,) of the crops, and the maps (N, V, 3, 3) of the
        joints.
        """
        return [
            (
                *draw_crops(num_frames, generator, *self.laws.crop, self.laws.crop_frames),
                draw_maps(len(num_frames), self.num_joints, generator, self.laws.shear),
            )
            for _ in range(len(self.first_views) + 1)
        ]

    def views(self, frames, first_row, num_frames, generator) -> tuple[torch.Tensor, ...]:
        """All views (n, 64, M, V, C) of this process's clips, which start at first_row (n,) of
        frames (F, M, V, C).

        num_frames (N,): the lengths of the global batch's clips. `generator` draws for all of them.
        All on one device.
        """
        draws = self.draws(num_frames, generator)
        start, length, maps = (
            torch.cat([self.share(each) for each in draw]) for draw in zip(*draws, strict=True)
        )
        start += first_row.repeat(len(draws))
        return apply_map(temporal_crop_resize(frames, start, length, VIEW_FRAMES), maps).chunk(
            len(draws)
        )


def downstream_batches(
    dataset: ClipDataset,
    batch_size: int,
    modalities=MODALITIES,
    crops=None,
    clips: torch.Tensor | None = None,
) -> Iterator[dict]:
    """Yield the streams of clips resized to 64 frames: whole clips, `[:num_frames]`, or crops.

    crops: start and length (N,) of the crops of all clips of the dataset, on its device, see
    `augmentations`.
    clips: the indices of those to yield, in this order; by default all, in their order.
    """
    source = frames_source(dataset, dataset.labels.device)
    clips = torch.arange(len(dataset), device=source.device) if clips is None else clips
    loaded = source.batches(clips.to(source.index_device).split(batch_size))
    for batch, (frames, start) in zip(
        clips.to(source.device).split(batch_size), loaded, strict=True
    ):
        length = dataset.num_frames[batch]
        if crops is not None:
            start, length = start + crops[0][batch], crops[1][batch]
        yield streams(temporal_crop_resize(frames, start, length, VIEW_FRAMES), modalities)
