"""The two feeders: augmented views for pre-training, whole clips for everything downstream."""
import numpy as np
import torch

from feeder.augmentations import apply_map, draw_crops, draw_maps, temporal_crop_resize
from feeder.modalities import MODALITIES, streams

SIZE = 64  # frames of every view
VIEWS = 4


def generator_at(seed, epoch, step=0, rank=0):
    """A CPU generator whose state is a function of its arguments alone: any step can be drawn again, on any device."""
    state = np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class PretrainFeeder:
    """Four independently augmented views of each clip, and their streams.

    `batch_size` is this rank's; every epoch visits each clip at most once, in an order all ranks agree on, and leaves
    out the last incomplete global batch.
    """

    def __init__(self, store, batch_size, seed, rank=0, world_size=1):
        self.store, self.batch_size, self.seed, self.rank, self.world_size = store, batch_size, seed, rank, world_size
        self.start, self.length = store.start.cpu(), store.length.cpu()  # the draws happen on the CPU

    def __len__(self):
        return len(self.store) // (self.batch_size * self.world_size)

    def epoch(self, epoch):
        """Yield (uni, fused) for each step: see `batch`."""
        order = torch.randperm(len(self.store), generator=generator_at(self.seed, epoch))
        for step in range(len(self)):
            first = (step * self.world_size + self.rank) * self.batch_size
            yield self.batch(order[first:first + self.batch_size], generator_at(self.seed, epoch, step + 1, self.rank))

    def batch(self, clips, generator):
        """(uni, fused): uni {'joint': view 1, 'bone': view 2, 'motion': view 3}, fused all three of view 4."""
        *views, last = [self.view(clips, generator) for _ in range(VIEWS)]
        uni = {}
        for view, modality in zip(views, MODALITIES, strict=True):
            uni |= streams(view, (modality,))
        return uni, streams(last)

    def view(self, clips, generator):
        """One augmented view of the clips of these indices (N,): (N, 64, M, V, C) on the store's device."""
        frames = self.store.frames
        start, length = draw_crops(self.length[clips], generator)
        maps = draw_maps(len(clips), frames.shape[2], generator)
        start += self.start[clips]
        start, length, maps = (draw.to(frames.device) for draw in (start, length, maps))
        return apply_map(temporal_crop_resize(frames, start, length, SIZE), maps)


def downstream_batches(store, batch_size, modalities=MODALITIES):
    """Yield the streams of the whole clips, in order: every clip `[:num_frame]` resized to 64 frames, no randomness."""
    for start, length in zip(store.start.split(batch_size), store.length.split(batch_size), strict=True):
        yield streams(temporal_crop_resize(store.frames, start, length, SIZE), modalities)
