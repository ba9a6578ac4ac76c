"""Run by torchrun in test_distributed.py: one rank's half of a step; rank 0 saves losses and gradients to argv[1].

argv[2]: --encoder-chunks (1).
"""
import sys

import torch

from feeder.modalities import MODALITIES, streams
from model.objective import umurl_objective
from model.umurl import UmURL
from tools.distributed import data_parallel, gather, process_group, rank, world_size

BATCH = 8


def step(chunks=1):
    """Losses and gradients of one step over the whole batch, of which every rank computes its own clips.

    BatchNorm runs on its running statistics: SyncBatchNorm, which would make it the same, refuses the CPU.
    """
    torch.manual_seed(0)
    model = UmURL(150, 192, 8, encoder_chunks=chunks).eval()
    trained = data_parallel(model, torch.device('cpu'))
    views = torch.randn(4, BATCH, 64, 2, 25, 3, generator=torch.Generator().manual_seed(1))
    views = views.chunk(world_size(), 1)[rank()]
    uni = {modality: streams(view, (modality,))[modality] for modality, view in zip(MODALITIES, views, strict=False)}
    for _ in range(3):  # the first step of a static graph goes another way than those behind it
        model.zero_grad()
        losses = umurl_objective(gather(trained(uni, streams(views[3]))))
        losses.total.backward()
    return {'losses': torch.stack(losses).detach(), 'gradients': [p.grad for p in model.parameters()]}


if __name__ == '__main__':
    with process_group('cpu'):
        result = step(*map(int, sys.argv[2:]))
        if rank() == 0:
            torch.save(result, sys.argv[1])
