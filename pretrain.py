"""Pre-train UmURL without labels.

One process (a CPU, or one GPU):   python pretrain.py --checkpoint-path ./checkpoints/ntu60_xsub
One machine, four GPUs:            torchrun --nproc_per_node=4 pretrain.py …
Two machines, on each:             torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d \\
                                       --rdzv_endpoint=HOST:29500 pretrain.py …
SLURM:                             srun --ntasks-per-node=4 --gpus-per-node=4 python pretrain.py …

Writes checkpoint_{epoch}.pth.tar every 50 epochs and after the last one, log.jsonl and tensorboard/, all into
--checkpoint-path.
"""
import argparse
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn

from data_gen import cli
from feeder import store
from feeder.feeders import SIZE, PretrainFeeder
from model.objective import Losses, umurl_objective
from model.umurl import UmURL
from tools import checkpoint, options
from tools.device import amp_dtype, autocast
from tools.distributed import agree, gather, process_group, rank, world_size
from tools.log import RunLog
from tools.schedule import learning_rate, set_learning_rate

SAVE_EVERY = 50


def main(argv=None):
    args = parse(argv)
    folder = options.data_folder(args)
    with process_group(args.device) as device:
        clips = store.load(folder, 'train', quiet=rank() != 0).to(device)
        feeder = PretrainFeeder(clips, batch_per_rank(args.batch_size, len(clips)), args.seed, rank(), world_size())

        if device.type == 'cpu' and args.hidden_size > 256 and rank() == 0:
            print('note: no GPU is used; --hidden-size 128 --batch-size 128 is a size for a CPU', file=sys.stderr)
        torch.manual_seed(args.seed)
        bodies, joints, coordinates = clips.frames.shape[1:]
        model = UmURL(bodies * joints * coordinates, SIZE * coordinates, args.hidden_size, num_head=1, num_layer=1)
        optimizer, scaler, first_epoch = restore(args, model.to(device), device)
        trained = parallel(model, device)

        args.checkpoint_path.mkdir(parents=True, exist_ok=True)
        log = RunLog(args.checkpoint_path, args, device, first_epoch)
        with cli.progress(None, 'pre-training', args.epochs * len(feeder), 'step',
                          initial=first_epoch * len(feeder), disable=rank() != 0) as bar:
            for epoch in range(first_epoch, args.epochs):
                lr = learning_rate(args, epoch)
                set_learning_rate(optimizer, lr)
                log.epoch(epoch, train_epoch(trained, feeder, optimizer, scaler, epoch, args, bar) | {'lr': lr})
                if rank() == 0 and (epoch % SAVE_EVERY == 0 or epoch == args.epochs - 1):
                    checkpoint.save(checkpoint.path_of(args.checkpoint_path, epoch), model, optimizer, epoch + 1,
                                    scaler=scaler.state_dict())
        log.close()


def parse(argv):
    parser = cli.Parser(__doc__)
    options.add_data_flags(parser, '--pre-dataset')
    parser.add_argument('--checkpoint-path', type=Path, default=Path('checkpoints/ntu60_xsub'), metavar='DIR',
                        help='where checkpoints and logs go (default checkpoints/ntu60_xsub)')
    parser.add_argument('--resume', metavar='PATH|auto',
                        help='go on from a checkpoint; auto: from the newest one in --checkpoint-path, if any')
    parser.add_argument('--hidden-size', type=even, default=1024, help='encoder width (default 1024)')
    parser.add_argument('--epochs', type=cli.positive, default=451, help='default 451')
    parser.add_argument('--start-epoch', type=cli.natural, help='count epochs from here (default: what --resume says)')
    parser.add_argument('-b', '--batch-size', type=cli.positive, default=512,
                        help='clips a step, over all processes (default 512)')
    parser.add_argument('--lr', '--learning-rate', type=cli.fraction, default=5e-4, help='default 5e-4')
    parser.add_argument('--schedule', type=int, nargs='*', default=[351], help='epochs at which lr falls to a tenth')
    parser.add_argument('--cos', action='store_true', help='cosine schedule in place of --schedule')
    parser.add_argument('--wd', '--weight-decay', dest='weight_decay', type=cli.fraction, default=1e-5,
                        help='default 1e-5')
    parser.add_argument('-p', '--print-freq', type=cli.positive, default=10,
                        help='steps between updates of the losses shown (default 10)')
    options.add_machine_flags(parser, amp='auto')
    options.add_ignored_flags(
        parser, workers='the clips lie on the training device, there are no loader workers',
        momentum='Adam is used, with its usual betas', world_size='torchrun or SLURM sets the number of processes',
        dist_url='torchrun or SLURM sets the address', local_rank='torchrun or SLURM sets the rank')
    return options.parse(parser, argv)


def even(text):
    """An argparse type: sines and cosines share the width."""
    if cli.positive(text) % 2:
        raise argparse.ArgumentTypeError(f'{text} is odd')
    return int(text)


def batch_per_rank(batch_size, clips):
    """This process's share of the global batch; said where that is not quite as asked for."""
    batch = min(batch_size, clips)
    batch -= batch % world_size()
    if batch < 2 * world_size():
        raise cli.InputError(f'a batch of {batch} is too small: BatchNorm needs 2 clips a process (--batch-size '
                             f'{batch_size}, {clips} clips)')
    if batch < batch_size and rank() == 0:
        why = f'only {clips} clips' if clips < batch_size else f'{world_size()} processes share it'
        print(f'note: {why}, so the batch size is {batch}', file=sys.stderr)
    return batch // world_size()


def restore(args, model, device):
    """The optimizer, the scaler and the first epoch: new, or as --resume has them (with the model's weights)."""
    optimizer = torch.optim.Adam(model.parameters(), args.lr, weight_decay=args.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=amp_dtype(args.amp, device) == torch.float16)
    path = checkpoint.newest(args.checkpoint_path) if args.resume == 'auto' else args.resume
    first_epoch = 0
    if path is not None:
        saved = checkpoint.read(path)
        checkpoint.load_into(model, saved['state_dict'], path)
        first_epoch = checkpoint.load_optimizer(optimizer, saved, path, args.weight_decay)
        if scaler.is_enabled() and saved.get('scaler'):
            scaler.load_state_dict(saved['scaler'])
    if args.start_epoch is not None:
        first_epoch = args.start_epoch
    agree(first_epoch, 'the epoch to go on from')
    if first_epoch >= args.epochs:
        raise cli.InputError(f'{path or "--start-epoch"}: {first_epoch} epochs are done; ask for more with --epochs')
    if rank() == 0:
        if path is not None:
            print(f'resuming from {path} at epoch {first_epoch}')
        elif moved := checkpoint.move_aside(args.checkpoint_path):
            print(f'note: the earlier run was moved to {moved} (--resume auto goes on with one)', file=sys.stderr)
    return optimizer, scaler, first_epoch


def parallel(model, device):
    """Wrapped for several processes, if there are several; SyncBatchNorm exists on CUDA only."""
    if world_size() == 1:
        return model
    if device.type == 'cuda':
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return nn.parallel.DistributedDataParallel(model, device_ids=[device], gradient_as_bucket_view=True)
    return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)


def train_epoch(model, feeder, optimizer, scaler, epoch, args, bar):
    """One epoch; the mean of each loss, and clips a second over all processes."""
    device = feeder.store.frames.device
    dtype = amp_dtype(args.amp, device)
    model.train()
    sums, began = torch.zeros(len(Losses._fields), device=device), time.perf_counter()
    for step, (uni, fused) in enumerate(feeder.epoch(epoch), 1):
        with autocast(dtype, device):
            projections = model(uni, fused)
        losses = umurl_objective(gather(projections))
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(losses.total).backward()
        scaler.step(optimizer)
        scaler.update()
        sums += torch.stack(losses).detach()
        bar.update()
        if step % args.print_freq == 0 or step == len(feeder):
            means = dict(zip(Losses._fields, (sums / step).tolist(), strict=True))
            if not math.isfinite(means['total']):
                sys.exit(f'error: the loss is not finite in epoch {epoch}, step {step}; the last checkpoint stands')
            bar.set_postfix(epoch=epoch, total=f'{means["total"]:.3f}', refresh=False)
    clips = len(feeder) * feeder.batch_size * world_size()
    return means | {'clips_per_second': clips / (time.perf_counter() - began)}


if __name__ == '__main__':
    cli.run(main)
