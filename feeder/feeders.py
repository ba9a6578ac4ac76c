"""The two feeders: augmented views for pre-training, whole clips for everything downstream."""
import numpy as np
import torch

from feeder.augmentations import apply_map, draw_crops, draw_maps, temporal_crop_resize
from feeder.modalities import MODALITIES, streams
from feeder.placement import Resident

SIZE = 64  # frames of every view


def generator_at(seed, epoch, step=0, rank=0):
    """A CPU generator whose state is a function of its arguments alone: any step can be drawn again, on any device."""
    state = np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class PretrainFeeder:
    """Independently augmented views of each clip, and their streams: four, of which three are of one modality each.

    With fewer `modalities` there are as many uni-modal views; with `fused_only` there are two views, each of all
    modalities. `source` is where the frames lie, see placement.py: on the store's device unless it is set anew.
    `batch_size` is this rank's; every epoch visits each clip at most once, in an order all ranks agree on, and leaves
    out the last incomplete global batch.
    """

    def __init__(self, store, batch_size, seed, rank=0, world_size=1, modalities=MODALITIES, fused_only=False):
        self.source = Resident(store, store.frames.device)
        self.modalities = modalities
        self.first_views = [modalities] if fused_only else [(modality,) for modality in modalities]
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.length, self.joints = store.length.cpu(), store.frames.shape[2]  # the draws happen on the CPU

    def __len__(self):
        return len(self.length) // (self.batch_size * self.world_size)

    def epoch(self, epoch):
        """Yield (uni, fused) for each step: see `batch`."""
        order = torch.randperm(len(self.length), generator=generator_at(self.seed, epoch))
        batches = order.split(self.batch_size)[self.rank:len(self) * self.world_size:self.world_size]
        for step, (clips, held) in enumerate(zip(batches, self.source.batches(batches), strict=True), 1):
            yield self.batch(clips, generator_at(self.seed, epoch, step, self.rank), held)

    def batch(self, clips, generator, held=None):
        """The batch of the clips of these indices (N,), its draws from `generator`; held: what the source holds of it.

        (uni, fused): uni {'joint': view 1, 'bone': view 2, 'motion': view 3}, fused all three of view 4.
        """
        frames, start = held or next(self.source.batches([clips]))
        *views, last = self.views(frames, start, self.length[clips], generator)
        uni = {}
        for view, modalities in zip(views, self.first_views, strict=True):
            uni |= streams(view, modalities)
        return uni, streams(last, self.modalities)

    def views(self, frames, first, num_frame, generator):
        """All views of clips that begin at `first` (N,) of frames (F, M, V, C) and have num_frame (N,) frames.

        Each (N, 64, M, V, C), on the device of the frames.
        """
        draws = [(*draw_crops(num_frame, generator), draw_maps(len(first), self.joints, generator))
                 for _ in range(len(self.first_views) + 1)]
        start, length, maps = (torch.cat(draw) for draw in zip(*draws, strict=True))
        start += first.repeat(len(draws))
        start, length, maps = (to_device(draw, frames.device) for draw in (start, length, maps))
        return apply_map(temporal_crop_resize(frames, start, length, SIZE), maps).chunk(len(draws))


def to_device(tensor, device):
    """A copy that a GPU makes when it comes to it, while the host goes on: that takes pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else tensor.to(device)


def downstream_streams(store, clips, modalities=MODALITIES):
    """The streams of the whole clips of these indices (N,): `[:num_frame]` resized to 64 frames, no randomness."""
    clips = clips.to(store.start.device)
    return streams(temporal_crop_resize(store.frames, store.start[clips], store.length[clips], SIZE), modalities)


def downstream_batches(store, batch_size, modalities=MODALITIES):
    """Yield the streams of all clips of a store, in order: see `downstream_streams`."""
    for clips in torch.arange(len(store), device=store.start.device).split(batch_size):
        yield downstream_streams(store, clips, modalities)
