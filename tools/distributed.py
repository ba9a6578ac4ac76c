"""One process or many: the same code; without a process group rank is 0 and the world is 1."""
import os
import subprocess
from contextlib import contextmanager

import torch
import torch.distributed as dist

from data_gen.cli import InputError
from tools.device import select


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def world_size():
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device):
    """Join the group that torchrun or SLURM describes in the environment, if one does; yields this process's device.

    device: 'cpu', 'cuda' or 'cuda:N'. nccl on CUDA, gloo on the CPU.
    """
    environment = from_torchrun() or from_slurm()
    if environment is None:
        yield select(device)
        return
    os.environ |= environment
    local = int(environment['LOCAL_RANK'])
    if device.startswith('cuda'):  # a launcher may show each process its own GPU alone
        device = f'cuda:{local % max(1, torch.cuda.device_count())}'
    device = select(device)
    dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield device
    finally:
        dist.destroy_process_group()


def from_torchrun():
    """The variables of torchrun, or None."""
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    return {name: os.environ[name] for name in names} if all(name in os.environ for name in names) else None


def from_slurm():
    """The same variables from those of a SLURM step of several tasks (`srun python pretrain.py …`), or None."""
    # SLURM_NTASKS is also set for a plain command inside an allocation: trust it only beside an address to meet at
    whole = os.environ.get('SLURM_NTASKS', '1') if 'MASTER_ADDR' in os.environ else '1'
    tasks = os.environ.get('SLURM_STEP_NUM_TASKS', whole)
    if tasks == '1' or not {'SLURM_PROCID', 'SLURM_LOCALID'} <= os.environ.keys():
        return None
    return {'RANK': os.environ['SLURM_PROCID'], 'WORLD_SIZE': tasks, 'LOCAL_RANK': os.environ['SLURM_LOCALID'],
            'MASTER_ADDR': os.environ.get('MASTER_ADDR') or first_slurm_node(),
            'MASTER_PORT': os.environ.get('MASTER_PORT', '29500')}


def first_slurm_node():
    nodes = os.environ.get('SLURM_STEP_NODELIST') or os.environ.get('SLURM_NODELIST', 'localhost')
    if '[' not in nodes:
        return nodes.split(',')[0]
    return subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True,
                          check=True).stdout.split()[0]


def agree(value, what):
    """InputError unless all processes have the same value."""
    if world_size() > 1:
        values = [None] * world_size()
        dist.all_gather_object(values, value)
        if len(set(values)) > 1:
            raise InputError(f'the processes disagree on {what}: {values}; the folders must be shared by all machines')


class Gather(torch.autograd.Function):
    """All ranks' tensors one after another along dim 1.

    Every rank computes the same loss of the same gathered tensor, so its gradient for its own slice is already the
    whole one: the backward needs no communication, only the factor that DDP's averaging takes away again.
    """

    @staticmethod
    def forward(ctx, tensor):
        ctx.size = tensor.shape[1]
        gathered = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(gathered, tensor.contiguous())
        return torch.cat(gathered, 1)

    @staticmethod
    def backward(ctx, gradient):
        own = gradient[:, rank() * ctx.size:(rank() + 1) * ctx.size]
        return own * world_size()


def gather(projections):
    """Several (B, D) tensors -> the same of all ranks, (k, world * B, D), with gradient; one communication."""
    if world_size() == 1:
        return projections
    return Gather.apply(torch.stack(tuple(projections)))
