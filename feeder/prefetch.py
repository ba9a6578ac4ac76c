"""The batch's way to the training device: frames that are there already, or brought from memory or
disk.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import NamedTuple

import torch

from feeder.dataset import ClipDataset


class Batch(NamedTuple):
    """Clips on the training device, in another order than asked for: those of one body first."""

    frames: torch.Tensor  # (F, M, V, C)
    first_row: torch.Tensor  # (N,), of each clip in frames
    order: torch.Tensor  # (N,), the place of each clip among those asked for
    num_single: int  # clips of one body

    def parts(self) -> list[tuple[slice, int]]:
        """The clips of one body and those of two, unless there are none: (which, bodies)."""
        one = slice(self.num_single)
        two = slice(self.num_single, len(self.order))
        parts = [(one, 1)] if self.num_single else []
        return parts + [(two, self.frames.shape[1])] if two.start < two.stop else parts


def one_body_first(second_body: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The order (N,) that puts clips without a second body first, and how many they are."""
    return second_body.argsort(stable=True), len(second_body) - int(second_body.sum())


def copied(tensors, device: torch.device) -> tuple[torch.Tensor, ...]:
    """The tensors (N, ...) on the device, in one copy: the host would wait for each."""
    return torch.cat(tensors).to(device).split([*map(len, tensors)])


class Resident:
    """All frames are on the training device; a batch is a list of indices."""

    def __init__(self, dataset: ClipDataset, device: torch.device):
        self.frames, self.start = dataset.frames.to(device), dataset.start.to(device)
        self.second_body = dataset.second_body
        self.device = device

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield a Batch for each tensor of clip indices (N,) on the CPU."""
        found, orders, singles = [], [], []
        for clips in batches:
            order, num_single = one_body_first(self.second_body[clips])
            found.append(clips[order])
            orders.append(order)
            singles.append(num_single)
        if not found:
            return
        found, orders = copied(found, self.device), copied(orders, self.device)
        for clips, order, num_single in zip(found, orders, singles, strict=True):
            yield Batch(self.frames, self.start[clips], order, num_single)


class Prefetcher:
    """All frames are in host memory or on disk; while one batch is computed, a thread brings the
    clips of the next one.

    On a GPU the copy uses pinned memory and a stream of its own, so nothing waits for it.
    """

    def __init__(self, dataset: ClipDataset, device: torch.device):
        self.device = device
        self.dataset = dataset.to(torch.device('cpu'))
        self.stream = torch.cuda.Stream(device) if device.type == 'cuda' else None

    def batches(self, batches: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield a Batch for each tensor of clip indices (N,) on the CPU; its frames are those of
        this batch.
        """
        with ThreadPoolExecutor(1) as thread:
            copies = (thread.submit(self.start_copy, clips) for clips in batches)
            for current, _ in pairwise(
                chain(copies, [None])
            ):  # the thread has the next one already
                *tensors, num_single, copied = current.result()
                if copied is not None:  # the computing stream waits for the copy, the host does not
                    computing = torch.cuda.current_stream(self.device)
                    computing.wait_event(copied)
                    for tensor in tensors:
                        tensor.record_stream(computing)
                yield Batch(*tensors, num_single)

    def start_copy(self, clips):
        """Gather clips (N,) and start copying: the fields of a Batch, and the event that ends the
        copy.
        """
        batch = self.dataset.select(clips)
        order, num_single = one_body_first(batch.second_body)
        tensors = batch.frames, batch.start[order], order
        if self.stream is None:
            return *(each.to(self.device) for each in tensors), num_single, None
        with torch.cuda.stream(self.stream):
            on_device = [each.pin_memory().to(self.device, non_blocking=True) for each in tensors]
            return *on_device, num_single, self.stream.record_event()


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
