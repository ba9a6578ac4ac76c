"""The batch's way to the training device: frames that are there already, or copied from host memory batch by batch."""
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

import torch

from feeder.dataset import ClipDataset

Batch = tuple[torch.Tensor, torch.Tensor]  # frames (F, M, V, C), each clip's first row in them (N,); on the device


class Resident:
    """All frames are on the training device; a batch is a list of indices."""

    def __init__(self, dataset: ClipDataset, device: torch.device):
        self.frames, self.start, self.device = dataset.frames.to(device), dataset.start.to(device), device

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield a Batch for each tensor of clip indices (N,), which are on the device."""
        for clips in batches:
            yield self.frames, self.start[clips]


class Prefetcher:
    """All frames are in host memory; while one batch is computed, the clips of the next one are copied.

    On a GPU the copy uses pinned memory and a stream of its own, so nothing waits for it.
    """

    def __init__(self, dataset: ClipDataset, device: torch.device):
        self.frames, self.start, self.num_frames = dataset.frames.cpu(), dataset.start.cpu(), dataset.num_frames.cpu()
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == 'cuda' else None

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield a Batch for each tensor of clip indices (N,) in host memory; its frames are those of this batch."""
        for current, _ in pairwise(chain(map(self.start_copy, batches), [None])):  # the next copy has begun
            yield self.finish_copy(*current)

    def start_copy(self, clips):
        """Start copying clips (N,): (their frames, each clip's first row, the event that ends the copy)."""
        num_frames = self.num_frames[clips]
        start = num_frames.cumsum(0) - num_frames
        rows = torch.repeat_interleave(self.start[clips] - start, num_frames)
        rows += torch.arange(len(rows))
        if self.stream is None:
            return self.frames[rows].to(self.device), start.to(self.device), None
        pinned = torch.empty((len(rows), *self.frames.shape[1:]), dtype=self.frames.dtype, pin_memory=True)
        torch.index_select(self.frames, 0, rows, out=pinned)
        with torch.cuda.stream(self.stream):
            on_device = [tensor.to(self.device, non_blocking=True) for tensor in (pinned, start.pin_memory())]
            return *on_device, self.stream.record_event()

    def finish_copy(self, frames, start, copied):
        """Make the computing stream wait for the copy; the host does not wait."""
        if copied is not None:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(copied)
            frames.record_stream(computing)
            start.record_stream(computing)
        return frames, start


def fits_on(dataset: ClipDataset, device: torch.device, share: float = 0.25) -> bool:
    """Whether the frames take at most this share of the GPU's free memory; the rest is for the model's activations."""
    free, _ = torch.cuda.mem_get_info(device)
    return dataset.frames.nbytes <= share * free
