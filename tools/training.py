"""One step of pre-training on one process or many, and what it needs: the model's wrapping and its optimizer."""
import os
import shutil

import torch
from torch import nn

from data_gen.cli import InputError
from model.objective import PUBLISHED, umurl_objective
from tools.device import amp_dtype, autocast
from tools.distributed import gather, world_size


def train_step(trained, batch, optimizer, scaler, dtype=None, weights=PUBLISHED, objective=umurl_objective):
    """One step on this process's (uni, fused); the Losses of the global batch as one tensor on the device.

    Nothing here waits for the device. trained: see `parallel`; dtype: see device.amp_dtype; objective: umurl_objective,
    compiled or not.
    """
    uni, fused = batch
    with autocast(dtype, fused[next(iter(fused))][0].device):
        projections = trained(uni, fused)
    losses = objective(gather(projections), weights)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(losses.total).backward()
    scaler.step(optimizer)
    scaler.update()
    return torch.stack(losses).detach()


def parallel(model, device):
    """Wrapped for several processes, if there are several; SyncBatchNorm exists on CUDA only."""
    if world_size() == 1:
        return model
    if device.type == 'cuda':
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    # Buffers need no broadcast: synchronised statistics agree, and in training nothing reads those that do not.
    return nn.parallel.DistributedDataParallel(model, device_ids=[device] if device.type == 'cuda' else None,
                                               broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True)


def compiled(*functions):
    """torch.compile of modules or functions; InputError where there is no compiler that it could use."""
    compiler = (os.environ.get('CXX') or 'g++').split()[0]
    if not shutil.which(compiler):
        raise InputError(f'--compile needs a C++ compiler, and {compiler} is not there: install one, or leave the flag')
    if world_size() > 1:  # its way of cutting a model at DDP's buckets cannot cut through a checkpointed part
        torch._dynamo.config.optimize_ddp = False
    return [torch.compile(function) for function in functions]


def optimizer_and_scaler(model, args, device):
    """Adam in one kernel, and a loss scaler that does something in fp16 only."""
    optimizer = torch.optim.Adam(model.parameters(), args.lr, weight_decay=args.weight_decay, fused=True)
    return optimizer, torch.amp.GradScaler(device.type, enabled=amp_dtype(args.amp, device) == torch.float16)
