"""The two feeders: augmented views for pre-training, whole clips for everything downstream."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial

import torch

from feeder.augmentations import (
    PUBLISHED,
    Augmentation,
    Draws,
    augment,
    sample,
    temporal_crop_resize,
)
from feeder.dataset import ClipDataset
from feeder.modalities import MODALITIES, streams
from feeder.prefetch import frames_source

VIEW_FRAMES = 64
# Recorded in checkpoints and results. Raise it when the same seed gives other draws than before.
# 1, which was not recorded: one generator for all draws of a step.
DRAWS_VERSION = 2


def generator_at(*place: int | float | str, device: torch.device | str = 'cpu') -> torch.Generator:
    """A generator for the draw at this place, such as (seed, epoch, step, view, name of the draw).

    Its state depends on the place alone, so that any step can be drawn again, and so that a new draw
    changes no other.
    """
    text = ' '.join(map(str, place))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, 'big'))


def views_of(modalities, fused_only: bool = False) -> list[tuple[str, ...]]:
    """The modalities of each view: one view for each modality, then one for all together. With
    `fused_only` two views for all together.
    """
    fused = tuple(modalities)
    if fused_only:
        return [fused, fused]
    return [(modality,) for modality in modalities] + [fused]


class PretrainFeeder:
    """Independently augmented views of each clip, as streams. `views`: the modalities of each, by
    default as `views_of` all modalities.

    `batch_size` is per process. Order and draws are those of the global batch, whatever the number
    of processes; each process takes its share of both. An epoch visits every clip, so its last
    batch may be smaller. As in the official code, the first clips of the order come again at its
    end if the processes' shares would not be equal. A last batch of one clip, for which BatchNorm
    has no variance, is left out. `source` brings the frames to the training device (see
    prefetch.py); by default they are where the dataset is.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        views: list[tuple[str, ...]] | None = None,
        source=None,
        augmentation: Augmentation = PUBLISHED,
    ):
        self.source = source or frames_source(dataset, dataset.labels.device)
        self.views = views or views_of(MODALITIES)
        self.augmentation = augmentation
        self.global_batch = batch_size * world_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_frames = dataset.num_frames.cpu()
        self.num_joints = dataset.frames.shape[2]

    def __len__(self):
        full, rest = divmod(len(self.num_frames), self.global_batch)
        return full + (rest > 1)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[dict, dict]]:
        """Yield (uni, fused) for each step from `first_step` on, counted from 0; see `batch`."""
        generator = generator_at(self.seed, epoch, 'order')
        order = torch.randperm(len(self.num_frames), generator=generator)
        order = torch.cat((order, order[: -len(order) % self.world_size]))
        device = self.source.device
        steps = slice(first_step, len(self))
        # Copied to a GPU once for all steps: the host would wait for each copy.
        num_frames = self.num_frames[order].to(device).split(self.global_batch)[steps]
        clips = order.to(self.source.index_device).split(self.global_batch)[steps]
        loaded = self.source.batches(map(self.share, clips))
        for step, (batch, lengths) in enumerate(zip(loaded, num_frames, strict=True), first_step):
            generator_of = partial(generator_at, self.seed, epoch, step, device=device)
            yield self.batch(*batch, lengths, generator_of)

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a global batch (N, ...)."""
        return batch.chunk(self.world_size)[self.rank]

    def batch(self, frames, first_row, num_frames, generator_of: Callable) -> tuple[dict, dict]:
        """The augmented views of this process's clips as streams: (uni, fused).

        uni {'joint': view 1, 'bone': view 2, 'motion': view 3}; fused has all three of view 4. The
        clips start at first_row (n,) of frames (F, M, V, C). num_frames (N,): the lengths of the
        global batch's clips. generator_of(view, name): draws for all of them. All on one device.
        """
        draws = [
            self.draw(num_frames, partial(generator_of, view)) for view in range(len(self.views))
        ]
        together = Draws(*(torch.cat(field) for field in zip(*draws, strict=True)))
        first_rows = first_row.repeat(len(draws))  # (views * n,)
        clips = augment(frames, first_rows, together, VIEW_FRAMES)  # (views * n, 64, M, V, C)
        *uni_views, fused_view = clips.chunk(len(draws))
        *uni_modalities, fused_modalities = self.views
        uni = {}
        for view, modalities in zip(uni_views, uni_modalities, strict=True):
            uni |= streams(view, modalities)
        return uni, streams(fused_view, fused_modalities)

    def draw(self, num_frames: torch.Tensor, generator_of: Callable) -> Draws:
        """What is drawn for this process's clips in one view; arguments as of `sample`."""
        draws = sample(num_frames, self.num_joints, generator_of, self.augmentation)
        return Draws(*map(self.share, draws))


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
            start = start + crops[0][batch]
            length = crops[1][batch]
        resized = temporal_crop_resize(frames, start, length, VIEW_FRAMES)  # (n, 64, M, V, C)
        yield streams(resized, modalities)
