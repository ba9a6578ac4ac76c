"""The two feeders: augmented views for pre-training, whole clips for everything downstream."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch

from feeder.augmentations import (
    PUBLISHED,
    Augmentation,
    Draws,
    augment,
    sample,
    temporal_crop_resize,
)
from feeder.dataset import ClipDataset, warn
from feeder.modalities import MODALITIES, streams
from feeder.prefetch import Batch, copied, frames_source

VIEW_FRAMES = 64
# Recorded in checkpoints and results. Raise it when the same seed gives other draws than before.
# 1, which was not recorded: one generator for all draws of a step.
DRAWS_VERSION = 2
SAMPLE = 32  # clips that show whether one body is enough


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
        self.one_body_is_enough = one_body_is_enough(
            self.num_joints, self.views[-1], augmentation, rank != 0
        )

    def __len__(self):
        full, rest = divmod(len(self.num_frames), self.global_batch)
        return full + (rest > 1)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[dict, ...]]:
        """Yield the views of each step from `first_step` on, counted from 0; see `batch`."""
        generator = generator_at(self.seed, epoch, 'order')
        order = torch.randperm(len(self.num_frames), generator=generator)
        order = torch.cat((order, order[: -len(order) % self.world_size]))
        device = self.source.device
        steps = slice(first_step, len(self))
        # Copied to a GPU once for all steps: the host would wait for each copy.
        num_frames = self.num_frames[order].to(device).split(self.global_batch)[steps]
        clips = order.split(self.global_batch)[steps]
        loaded = self.source.batches(map(self.share, clips))
        for step, (batch, lengths) in enumerate(zip(loaded, num_frames, strict=True), first_step):
            generator_of = partial(generator_at, self.seed, epoch, step, device=device)
            yield self.batch(batch, lengths, generator_of)

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a global batch (N, ...)."""
        return batch.chunk(self.world_size)[self.rank]

    def batch(self, batch: Batch, num_frames, generator_of: Callable) -> tuple[dict, ...]:
        """The augmented views of this process's clips as streams: (uni, fused), or of clips with
        one body and of clips with two (uni, fused, uni, fused).

        uni {'joint': view 1, 'bone': view 2, 'motion': view 3}; fused has all three of view 4.
        num_frames (N,): the lengths of the global batch's clips. generator_of(view, name): draws
        for all of them. All on one device.
        """
        drawn = [
            self.draw(num_frames, partial(generator_of, view)) for view in range(len(self.views))
        ]
        if not self.one_body_is_enough:
            batch = batch._replace(num_single=0)
        views = ()
        for clips, bodies in batch.parts():
            order = batch.order[clips]
            draws = [Draws(*(field[order] for field in draw)) for draw in drawn]
            views += self.views_as_streams(batch.frames, batch.first_row[clips], draws, bodies)
        return views

    def views_as_streams(self, frames, first_row, draws: list[Draws], bodies) -> tuple[dict, dict]:
        """The views (uni, fused) of clips that start at first_row (n,) of frames (F, M, V, C).
        draws: of each view.
        """
        together = Draws(*(torch.cat(field) for field in zip(*draws, strict=True)))
        first_rows = first_row.repeat(len(draws))  # (views * n,)
        clips = augment(frames, first_rows, together, VIEW_FRAMES, bodies)
        *uni_views, fused_view = clips.chunk(len(draws))  # (n, 64, M, V, C) each
        *uni_modalities, fused_modalities = self.views
        uni = {}
        for view, modalities in zip(uni_views, uni_modalities, strict=True):
            uni |= streams(view, modalities)
        return uni, streams(fused_view, fused_modalities)

    def draw(self, num_frames: torch.Tensor, generator_of: Callable) -> Draws:
        """What is drawn for this process's clips in one view; arguments as of `sample`."""
        draws = sample(num_frames, self.num_joints, generator_of, self.augmentation)
        return Draws(*map(self.share, draws))


def one_body_is_enough(
    num_joints: int, modalities, augmentation: Augmentation, quiet=False
) -> bool:
    """Whether clips of one body can do without the absent one: in a sample, its numbers remain
    zeros, and leaving it out does not change the other body's. Prints a note if not.
    """
    functions = [MODALITIES[name] for name in modalities]
    enough = ignores_the_absent_body(
        augment, *functions, num_joints=num_joints, augmentation=augmentation
    )
    if not enough and not quiet:
        warn(
            'note: an augmentation or a modality makes something of a body that is not there, or '
            'depends on it: clips of one body take as long as those of two'
        )
    return enough


@cache
def ignores_the_absent_body(
    augment: Callable, *functions: Callable, num_joints: int, augmentation: Augmentation
) -> bool:
    """See `one_body_is_enough`. functions: of the modalities. Fields of the augmentation must be
    hashable: tuples, not lists.
    """
    num_frames = torch.full((SAMPLE,), VIEW_FRAMES)
    first_row = num_frames.cumsum(0) - num_frames
    frames = torch.zeros(SAMPLE * VIEW_FRAMES, 2, num_joints, 3)
    frames[:, 0].normal_(generator=generator_at('sample'))
    draws = sample(num_frames, num_joints, generator_at, augmentation)
    both, alone = (augment(frames, first_row, draws, VIEW_FRAMES, bodies) for bodies in (2, 1))
    for function in functions:
        first, second = function(both).split(1, 2)  # (n, 64, 1, V, C) each
        if second.any() or not torch.allclose(first, function(alone)):
            return False
    return True


def downstream_batches(
    dataset: ClipDataset,
    batch_size: int,
    modalities=MODALITIES,
    crops=None,
    clips: torch.Tensor | None = None,
) -> Iterator[tuple[torch.Tensor, list[dict]]]:
    """Yield the clips of each batch (n,), on the dataset's device, and the streams of these clips,
    resized to 64 frames: of those with one body and of those with two, whose clips come in this
    order. They are whole clips, `[:num_frames]`, or crops.

    crops: start and length (N,) of the crops of all clips of the dataset, on its device, see
    `augmentations`.
    clips: the indices of those to yield, on the CPU, in batches of this order. By default all:
    those of one body, then those of two.
    """
    source = frames_source(dataset, dataset.labels.device)
    if clips is None:
        clips = dataset.second_body.argsort(stable=True)
    enough = one_body_is_enough(dataset.frames.shape[2], modalities, PUBLISHED)
    batches = clips.split(batch_size)
    on_device = copied(batches, source.device)
    for asked, batch in zip(on_device, source.batches(batches), strict=True):
        if not enough:
            batch = batch._replace(num_single=0)
        found = asked[batch.order]
        start, length = batch.first_row, dataset.num_frames[found]
        if crops is not None:
            start = start + crops[0][found]
            length = crops[1][found]
        parts = []
        for which, bodies in batch.parts():
            resized = temporal_crop_resize(
                batch.frames, start[which], length[which], VIEW_FRAMES, bodies
            )  # (n, 64, M, V, C)
            parts.append(streams(resized, modalities))
        yield found, parts
