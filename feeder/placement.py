"""Where a split's frames lie while a model trains: on its device, or in host memory and copied batch by batch."""
import torch


class Resident:
    """All frames on the training device: a batch is a list of indices."""

    def __init__(self, store, device):
        self.frames, self.start, self.device = store.frames.to(device), store.start.cpu(), device

    def batches(self, batches):
        """For each batch of clips (N,): (frames (F, M, V, C) on the device, where each clip begins in them (N,))."""
        for clips in batches:
            yield self.frames, self.start[clips]


class Staged:
    """All frames in host memory; while one batch is worked on, the whole clips of the next are copied.

    On a GPU the copy runs on a stream of its own, out of pinned memory, so that nothing waits for it.
    """

    def __init__(self, store, device):
        self.frames, self.start, self.length = store.frames.cpu(), store.start.cpu(), store.length.cpu()
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == 'cuda' else None

    def batches(self, batches):
        """As of `Resident`; the frames are those of the batch's clips alone."""
        ready = None
        for clips in batches:
            coming = self.copy(clips)
            if ready is not None:
                yield self.arrived(*ready)
            ready = coming
        if ready is not None:
            yield self.arrived(*ready)

    def copy(self, clips):
        """Begin to copy clips (N,): their frames one after another, where each begins, and the end of the copy."""
        length = self.length[clips]
        rows = torch.repeat_interleave(self.start[clips] - length.cumsum(0) + length, length)
        rows += torch.arange(len(rows))
        start = length.cumsum(0) - length
        if self.stream is None:
            return self.frames[rows].to(self.device), start, None
        pinned = torch.empty((len(rows), *self.frames.shape[1:]), dtype=self.frames.dtype, pin_memory=True)
        torch.index_select(self.frames, 0, rows, out=pinned)
        with torch.cuda.stream(self.stream):
            return pinned.to(self.device, non_blocking=True), start, self.stream.record_event()

    def arrived(self, frames, start, copied):
        """The copied frames, for the stream that computes: it waits for this copy, the host does not."""
        if copied is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(copied)
            frames.record_stream(current)
        return frames, start


def fits(store, device):
    """Whether the split's frames fit into what the device's memory has free now, with a twentieth of it to spare."""
    free, total = torch.cuda.mem_get_info(device)
    return store.frames.nbytes < free - total / 20
