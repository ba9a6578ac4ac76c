"""A store's clips in contiguous shares, one for each process, and what was computed of them gathered again."""
import torch
import torch.distributed as dist

from feeder.store import ClipStore
from tools.distributed import rank, world_size


def bounds(clips):
    """Where each process's share of so many clips begins, and the end of the last one."""
    return [clips * number // world_size() for number in range(world_size() + 1)]


def own_share(clips):
    """This process's clips of a store; with more processes than clips it can be none."""
    first, last = bounds(len(clips))[rank():rank() + 2]
    frames = clips.frames[clips.length[:first].sum():clips.length[:last].sum()]
    return ClipStore(frames, clips.length[first:last], clips.labels[first:last], clips.names[first:last])


def gathered(own, clips):
    """Every process's rows `own` of so many clips, one after another: (clips, D), on all processes."""
    if world_size() == 1:
        return own
    ends = bounds(clips)
    counts = [end - begin for begin, end in zip(ends, ends[1:], strict=False)]
    padded = own.new_zeros(max(counts), own.shape[1])  # all have to send the same number of rows
    padded[:len(own)] = own
    blocks = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(blocks, padded)
    return torch.cat([block[:count] for block, count in zip(blocks, counts, strict=True)])
