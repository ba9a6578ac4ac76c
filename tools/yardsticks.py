"""What the project's parts are held against: this machine's peaks, and the plain forms of the same work."""
import resource
import sys
import time
from statistics import median

import numpy as np
import torch
from torch.nn import functional

from feeder.feeders import SIZE
from feeder.modalities import MODALITIES, streams
from tools.costs import FLOAT
from tools.device import DTYPES

TOKENS = 4 * SIZE  # of a clip, over the four views, in the larger stream
LEAST = 0.2  # seconds of calls, of which the fastest counts


def clock(work, device):
    """Seconds of a call, what it leaves running on a GPU included."""
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def best(work, device, ready=None):
    """The least seconds of a call among the first ones; a long one is made once. `ready`: before each, not timed."""
    times = []
    while sum(times) < LEAST:
        if ready:
            ready()
        times.append(clock(work, device))
    return min(times)


def wait(device):
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


class Machine:
    """This machine's peaks, measured whenever they are asked for, since its load changes; `measured` keeps them all."""

    def __init__(self, device, hidden_size, batch_size):
        self.device, gpu = device, device.type == 'cuda'
        rows, side = min(TOKENS * batch_size, 1 << 16 if gpu else 2048), 8192 if gpu else 2048
        self.shapes = ((rows, hidden_size, 3 * hidden_size), (rows, hidden_size, hidden_size), (side, side, side))
        size = (1 << 30 if gpu else 1 << 28) // FLOAT  # far above every cache
        self.source, self.target = (torch.zeros(size, device=device) for _ in range(2))
        self.measured = {}

    def copy(self):
        """Bytes read and written a second by copying a large tensor."""
        seconds = best(lambda: self.target.copy_(self.source), self.device)
        return self.keep('copy', 2 * self.source.nbytes / seconds)

    def matmul(self, dtype):
        """FLOP/s of the best of a few torch.mm, of shapes that the model has and of a large square one."""
        rates = []
        for rows, inner, columns in self.shapes:
            a = torch.randn(rows, inner, device=self.device).to(DTYPES[dtype])
            b = torch.randn(columns, inner, device=self.device).to(DTYPES[dtype]).T
            rates.append(2 * rows * inner * columns / best(lambda a=a, b=b: torch.mm(a, b), self.device))
        return self.keep(f'matmul {dtype}', max(rates))

    def onednn(self):
        """FLOP/s of oneDNN's float32 product, which torch uses for its opaque tensors only; torch.mm may be slower."""
        side = self.shapes[-1][0]
        a, b = (torch.randn(side, side).to_mkldnn() for _ in range(2))
        return self.keep('oneDNN float32', 2 * side ** 3 / best(lambda: functional.linear(a, b), self.device))

    def keep(self, name, rate):
        self.measured.setdefault(name, []).append(rate)
        return rate

    def peaks(self):
        """The median of each peak over all times it was measured: FLOP/s, and bytes a second."""
        return {name: median(rates) for name, rates in self.measured.items()}

    def peak_memory(self):
        """The most bytes that this process has had: on the GPU, or of the host's memory."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def parse_text(texts):
    """Of reading recordings: all numbers of the same text."""
    return [np.array(text.split(), float) for text in texts]


def batch_one_by_one(clips, rng, device):
    """Of a batch: each view of each clip by itself; clips a list of (T, M, V, C)."""
    made = [torch.from_numpy(np.stack([augmented(clip, rng) for clip in clips])).to(device)
            for _ in range(len(MODALITIES) + 1)]
    uni = {}
    for view, modality in zip(made, MODALITIES, strict=False):
        uni |= streams(view, (modality,))
    return uni, streams(made[-1])


def augmented(clip, rng):
    """One view (64, M, V, C) of one clip (T, M, V, C)."""
    frames = len(clip)
    length = int(np.clip(int(frames * rng.uniform(0.1, 1)), min(64, frames), frames))
    start = rng.integers(frames - length + 1)
    lines = clip[start:start + length].permute(1, 2, 3, 0).reshape(1, -1, length)
    view = functional.interpolate(lines, size=SIZE, mode='linear', align_corners=False).numpy()
    view = np.ascontiguousarray(view.reshape(*clip.shape[1:], SIZE).transpose(3, 0, 1, 2))
    if rng.random() < 0.5:
        joints = rng.choice(25, 15, replace=False)
        if rng.random() < 0.5:
            view[:, :, joints] = 0
        else:
            view[:, :, joints] = view[:, :, joints] @ rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        return view
    shear = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
    np.fill_diagonal(shear, 1)
    return view @ shear.T


def wide_objective(z):
    """Of the objective: the D x D covariance matrices; z (6, B, D)."""
    uni, fused = z[:3], z[3:]
    total = 5 * sum(functional.mse_loss(a, b) + functional.mse_loss(a, uni.mean(0))
                    for a, b in zip(uni, fused, strict=True))
    for one in z:
        covariance = torch.cov(one.T)
        hinge = torch.relu(1 - torch.sqrt(one.var(0) + 1e-4)).mean()
        total = total + 5 * hinge + (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[2]
    return total
