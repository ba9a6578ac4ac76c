"""The batch's way to the training device: frames that are there already, or brought from memory or
disk.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise

import torch

from feeder.dataset import ClipDataset

Batch = tuple[
    torch.Tensor, torch.Tensor
]  # frames (F, M, V, C), each clip's first row in them (N,); on the device


class Resident:
    """All frames are on the training device; a batch is a list of indices."""

    def __init__(self, dataset: ClipDataset, device: torch.device):
        self.frames, self.start = dataset.frames.to(device), dataset.start.to(device)
        self.device = self.index_device = device

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield a Batch for each tensor of clip indices (N,), which are on `index_device`."""
        for clips in batches:
            yield self.frames, self.start[clips]


class Prefetcher:
    """All frames are in host memory or on disk; while one batch is computed, a thread brings the
    clips of the next one.

    On a GPU the copy uses pinned memory and a stream of its own, so nothing waits for it.
    """

    def __init__(self, dataset: ClipDataset, device: torch.device):
        self.device, self.index_device = device, torch.device('cpu')
        self.dataset = dataset.to(self.index_device)
        self.stream = torch.cuda.Stream(device) if device.type == 'cuda' else None

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield a Batch for each tensor of clip indices (N,), on `index_device`; its frames are
        those of this batch.
        """
        with ThreadPoolExecutor(1) as thread:
            copies = (thread.submit(self.start_copy, clips) for clips in batches)
            for current, _ in pairwise(
                chain(copies, [None])
            ):  # the thread has the next one already
                frames, start, copied = current.result()
                if copied is not None:  # the computing stream waits for the copy, the host does not
                    computing = torch.cuda.current_stream(self.device)
                    computing.wait_event(copied)
                    frames.record_stream(computing)
                    start.record_stream(computing)
                yield frames, start

    def start_copy(self, clips):
        """Gather clips (N,) and start copying: (their frames, each clip's first row, the event that
        ends the copy).
        """
        batch = self.dataset.select(clips)
        if self.stream is None:
            return batch.frames.to(self.device), batch.start.to(self.device), None
        with torch.cuda.stream(self.stream):
            on_device = [
                each.pin_memory().to(self.device, non_blocking=True)
                for each in (batch.frames, batch.start)
            ]
            return *on_device, self.stream.record_event()


def frames_source(
    dataset: ClipDataset, device: torch.device, data_device: str = 'cuda'
) -> Resident | Prefetcher:
    """How the frames of a dataset come to the device; data_device: see --data-device of
    pretrain.py.

    auto keeps frames on a GPU that take up to a quarter of its free memory; the rest is for the
    model's activations.
    """
    resident = not dataset.mapped
    if resident and device.type == 'cuda' and data_device != 'cuda':
        resident = (
            data_device == 'auto'
            and dataset.frames.nbytes <= torch.cuda.mem_get_info(device)[0] / 4
        )
    return Resident(dataset, device) if resident else Prefetcher(dataset, device)
