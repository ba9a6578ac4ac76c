"""Run by torchrun in test_distributed.py: one rank's share of an epoch; rank 0 saves what `train`
returns to argv[1].

argv[2]: --encoder-chunks (1), argv[3]: 1 to trace the model as torch.compile does, without a break.
"""

import sys
from functools import partial

import torch
from torch.nn.functional import mse_loss

from feeder.dataset import ClipDataset
from feeder.feeders import PretrainFeeder
from model.objective import variance_covariance
from model.umurl import UmURL
from tools.distributed import data_parallel, gather, process_group, rank, world_size
from tools.training import compilation

CLIPS, BATCH = 14, 8  # the last batch is incomplete


def train(chunks=1, traced=0):
    """Loss, gradients and buffers of each step of two epochs in float64, each rank computing its
    share.

    The published objective would compute in float32.
    """
    torch.manual_seed(0)
    model = UmURL(150, 192, 8, encoder_chunks=chunks).double()
    if traced:
        torch.compile = partial(torch.compile, backend='aot_eager', fullgraph=True)
        compilation.shutil.which = lambda name: name
        compilation.compiled(model, variance_covariance, torch.device('cpu'))
    trained = data_parallel(model, torch.device('cpu'))
    lengths = torch.full((CLIPS,), 70)
    frames = torch.randn(
        CLIPS * 70, 2, 25, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    bodies = frames.view(CLIPS, 70, 2, 25, 3)
    bodies[::2, :, 1] = 0  # of a process's four clips none to all have one body
    feeder = PretrainFeeder(
        ClipDataset(frames, lengths, lengths, []), BATCH // world_size(), 0, rank(), world_size()
    )
    steps = []
    for epoch in range(2):  # the first step of a static graph goes another way than those behind it
        for views in feeder.epoch(epoch):
            model.zero_grad()
            projections = torch.stack(tuple(gather(trained(*views))))
            loss = variance_covariance(projections).sum() + mse_loss(*projections.chunk(2))
            (world_size() * loss).backward()
            steps.append(
                {
                    'loss': loss.item(),
                    'gradients': [p.grad.clone() for p in model.parameters()],
                    'buffers': [buffer.clone() for buffer in model.buffers()],
                }
            )
            for parameter in model.parameters():
                parameter.data -= 1e-5 * parameter.grad
    return steps


if __name__ == '__main__':
    with process_group('cpu'):
        result = train(*map(int, sys.argv[2:]))
        if rank() == 0:
            torch.save(result, sys.argv[1])
