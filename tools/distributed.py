"""One process or several with the same code: without a process group the rank is 0 and the world
size 1.
"""

import inspect
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous

from tools.batch_norm import synchronize
from tools.common.cli import InputError
from tools.device import select

# The variables with the rank, the world size, and the rank on the machine. Kubernetes sets the
# first two of torchrun's.
LAUNCHERS = (
    ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),  # mpirun
    ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS', 'SLURM_LOCALID'),  # srun
)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the process group that a launcher describes, if any; yields this process's device.

    Uses nccl on CUDA, gloo on the CPU. After an error nothing is destroyed, since a failing process
    must not wait for the others.
    """
    environment = launcher_environment()
    if environment is None:
        yield select(device)
        return
    check_launcher(environment['WORLD_SIZE'])
    os.environ |= environment
    if device.startswith('cuda'):  # a launcher may show each process only its own GPU
        device = f'cuda:{int(environment["LOCAL_RANK"]) % max(1, torch.cuda.device_count())}'
    device = select(device)
    join(device)
    yield device
    dist.barrier()  # without it, torch 2.4 can wait forever for a process that has already left
    dist.destroy_process_group()


def check_launcher(world_size: str) -> None:
    """InputError unless the variables say where the processes meet. Under mpirun on one machine it
    is that machine.
    """
    if not {'RANK', 'OMPI_COMM_WORLD_RANK'} & os.environ.keys():
        raise InputError(
            f'{world_size} SLURM tasks without torchrun: start with script_pretrain_slurm.sh'
        )
    if os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') == world_size:
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        raise InputError(
            f'{world_size} processes, but MASTER_ADDR is not set: set it to the name of the machine '
            'that runs the first'
        )


def join(device: torch.device) -> None:
    """Meet the other processes; InputError if that fails."""
    place = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
    try:
        with waiting_note(f'{os.environ["WORLD_SIZE"]} processes to meet at {place}'):
            if device.type == 'cpu':
                dist.init_process_group('gloo')
                return
            store, rank, world_size = next(rendezvous('env://'))
            check_own_gpu(store, rank, world_size, device)
            dist.init_process_group(
                'nccl',
                store=dist.PrefixStore('group', store),
                rank=rank,
                world_size=world_size,
                device_id=device,
            )
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'the processes do not meet at {place}: {reason}') from error


@contextmanager
def waiting_note(what: str) -> Iterator[None]:
    """Print that we wait for `what`, after 10 seconds and then every minute, until the block ends."""
    over = threading.Event()

    def tell():
        pause = 10
        while not over.wait(pause):
            print(f'note: still waiting for {what}', file=sys.stderr)
            pause = 60

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def check_own_gpu(store: dist.Store, rank: int, world_size: int, device: torch.device) -> None:
    """InputError if two processes have one GPU, which nccl refuses with an obscure message."""
    # The number of a GPU says nothing where each process is shown only its own. Before torch 2.5
    # there is no UUID.
    uuid = getattr(torch.cuda.get_device_properties(device), 'uuid', f'of process {rank}')
    store.set(f'GPU of {rank}', f'{socket.gethostname()}, {uuid}')
    gpus = [store.get(f'GPU of {other}').decode() for other in range(world_size)]
    if len(set(gpus)) < world_size:
        twice = next(gpu for gpu in gpus if gpus.count(gpu) > 1)
        raise InputError(
            f'{gpus.count(twice)} processes share one GPU ({twice}): start one process for each GPU'
        )


def launcher_environment() -> dict[str, str] | None:
    """RANK, WORLD_SIZE and LOCAL_RANK, if a launcher started this process; None for a single one."""
    for names in LAUNCHERS:
        rank, world_size, local_rank = map(os.environ.get, names)
        if rank and world_size:
            if world_size == '1' and 'LOCAL_RANK' not in os.environ:
                return None
            return {'RANK': rank, 'WORLD_SIZE': world_size, 'LOCAL_RANK': local_rank or '0'}
    return None


def first_process_only() -> bool:
    """False in all but the first process of a launcher; evaluation needs one process, so the others
    leave.
    """
    environment = launcher_environment() or {'RANK': '0', 'WORLD_SIZE': '1'}
    if environment['RANK'] == '0' and environment['WORLD_SIZE'] != '1':
        print('note: evaluation runs in one process; the others leave', file=sys.stderr)
    return environment['RANK'] == '0'


def check_agreement(value: object, name: str) -> None:
    """InputError unless all processes have the same value."""
    if world_size() > 1:
        values = [None] * world_size()
        dist.all_gather_object(values, value)
        if len(set(values)) > 1:
            raise InputError(
                f'the processes disagree on {name}: {values}; all machines must share the folders'
            )


class Gather(torch.autograd.Function):
    """All processes' tensors (k, B, D) concatenated along dim 1.

    Every process computes the same loss from the same gathered tensor, so the gradient of its own
    slice is already complete, and the backward needs no communication. `world_size` times the loss
    is to be differentiated, since DDP averages the gradients.
    """

    @staticmethod
    def forward(ctx, tensor):
        ctx.size = tensor.shape[1]
        gathered = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(gathered, tensor.contiguous())
        return torch.cat(gathered, 1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient[:, rank() * ctx.size : (rank() + 1) * ctx.size]


def gather(projections):
    """Several (B, D) tensors -> those of all processes, (k, world * B, D), with gradient, in one
    communication.
    """
    if world_size() == 1:
        return projections
    return Gather.apply(torch.stack(tuple(projections)))


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """DistributedDataParallel with BatchNorm over all processes, if there are several."""
    if world_size() == 1:
        return model
    synchronize(model)
    # Buffers need no broadcast: synchronised statistics agree. torch 2.13 warns of the older name
    # of the flag.
    ddp = nn.parallel.DistributedDataParallel
    newer = 'forward_sync_buffers' in inspect.signature(ddp).parameters
    return ddp(
        model,
        device_ids=[device] if device.type == 'cuda' else None,
        gradient_as_bucket_view=True,
        static_graph=True,
        **{'forward_sync_buffers' if newer else 'broadcast_buffers': False},
    )
