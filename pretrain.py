"""Pre-train UmURL without labels.

One process (a CPU, or one GPU):   python pretrain.py --checkpoint-path ./checkpoints/ntu60_xsub
One machine, four GPUs:            torchrun --nproc_per_node=4 pretrain.py …
Two machines, on each:             torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d \\
                                       --rdzv_endpoint=HOST:29500 pretrain.py …
SLURM:                             srun --ntasks-per-node=4 --gpus-per-node=4 python pretrain.py …

Writes checkpoint_{epoch}.pth.tar after the first, every 50th and the last epoch, log.jsonl and tensorboard/, all into
--checkpoint-path. Of the losses shown, total = 5 intra + 5 inter + reg; reg holds its weights already.
"""
import math
import sys
import time
from pathlib import Path

import torch

from data_gen import cli
from feeder import store
from feeder.feeders import SIZE, PretrainFeeder
from feeder.modalities import MODALITIES
from feeder.placement import Resident, Staged, fits
from model.objective import Losses, Weights, umurl_objective
from model.umurl import FusedViews, UmURL
from tools import checkpoint, options
from tools.device import DTYPES, amp_dtype
from tools.distributed import agree, process_group, rank, world_size
from tools.log import RunLog
from tools.schedule import learning_rate, set_learning_rate
from tools.training import compiled, optimizer_and_scaler, parallel, train_step

SAVE_EVERY = 50
CHECKPOINTED_PARTS = 4  # of a batch, with --checkpoint-activations


def main(argv=None):
    args = parse(argv)
    folder = options.data_folder(args)
    with process_group(args.device) as device:
        clips = store.load(folder, 'train', quiet=rank() != 0).in_precision(DTYPES[args.data_dtype])
        feeder = PretrainFeeder(clips, batch_per_rank(args.batch_size, len(clips)), args.seed, rank(), world_size(),
                                args.modalities, fused_only=args.objective == 'baseline')
        on_host = device.type == 'cuda' and args.data_device != 'cuda'
        feeder.source = Staged(clips, device) if on_host else Resident(clips, device)

        if device.type == 'cpu' and args.hidden_size > 256 and rank() == 0:
            print('note: no GPU is used; --hidden-size 128 --batch-size 128 is a size for a CPU', file=sys.stderr)
        torch.manual_seed(args.seed)
        bodies, joints, coordinates = clips.frames.shape[1:]
        network = FusedViews if args.objective == 'baseline' else UmURL
        model = network(bodies * joints * coordinates, SIZE * coordinates, args.hidden_size, num_head=1, num_layer=1)
        model.train_only(args.modalities)
        model.parts = args.accumulate or (CHECKPOINTED_PARTS if args.checkpoint_activations else 1)
        optimizer, scaler, first_epoch = restore(args, model.to(device), device)
        trained, objective = parallel(model, device), umurl_objective
        if args.compile:
            trained, objective = compiled(trained, objective)

        args.checkpoint_path.mkdir(parents=True, exist_ok=True)
        log = RunLog(args.checkpoint_path, args, device, first_epoch)
        with cli.progress(None, 'pre-training', args.epochs * len(feeder), 'step',
                          initial=first_epoch * len(feeder), disable=rank() != 0) as bar:
            for epoch in range(first_epoch, args.epochs):
                lr = learning_rate(args, epoch)
                set_learning_rate(optimizer, lr)
                scalars = train_epoch(trained, objective, feeder, optimizer, scaler, epoch, args, bar)
                log.epoch(epoch, scalars | {'lr': lr})
                if rank() == 0 and (epoch % SAVE_EVERY == 0 or epoch == args.epochs - 1):
                    checkpoint.save(checkpoint.path_of(args.checkpoint_path, epoch), model, optimizer, epoch + 1,
                                    scaler=scaler.state_dict(), about=about(args))
                if on_host and args.data_device == 'auto' and epoch == first_epoch and fits(clips, device):
                    feeder.source = Resident(clips, device)  # beside all that an epoch of training has taken
        log.close()


def parse(argv):
    parser = cli.Parser(__doc__)
    options.add_data_flags(parser, '--pre-dataset')
    parser.add_argument('--checkpoint-path', type=Path, default=Path('checkpoints/ntu60_xsub'), metavar='DIR',
                        help='where checkpoints and logs go (default checkpoints/ntu60_xsub)')
    parser.add_argument('--resume', metavar='PATH|auto',
                        help='go on from a checkpoint; auto: from the newest one in --checkpoint-path, if any')
    parser.add_argument('--hidden-size', type=cli.even, default=1024, help='encoder width (default 1024)')
    parser.add_argument('--objective', choices=('umurl', 'baseline', 'no-intra', 'no-inter'), default='umurl',
                        help="umurl (default), or the paper's ablations: two views fused from all modalities with one "
                             'projector; without the intra-modal, without the inter-modal consistency')
    parser.add_argument('--modalities', nargs='+', choices=MODALITIES, default=list(MODALITIES),
                        help='what to pre-train on (default: all three)')
    for name, weight in Weights()._asdict().items():
        parser.add_argument(f'--{name}-weight', type=cli.fraction, metavar='W',
                            help=f'of the {name} term of the loss (default {weight})')
    parser.add_argument('--epochs', type=cli.positive, default=451, help='default 451')
    parser.add_argument('--start-epoch', type=cli.natural, help='count epochs from here (default: what --resume says)')
    parser.add_argument('-b', '--batch-size', type=cli.positive, default=512,
                        help='clips a step, over all processes (default 512)')
    parser.add_argument('--lr', '--learning-rate', type=cli.fraction, default=5e-4, help='default 5e-4')
    parser.add_argument('--schedule', type=int, nargs='*', default=[351],
                        help='epochs at which lr falls to a tenth (default 351)')
    parser.add_argument('--cos', action='store_true', help='cosine schedule in place of --schedule')
    parser.add_argument('--wd', '--weight-decay', dest='weight_decay', type=cli.fraction, default=1e-5,
                        help='default 1e-5')
    parser.add_argument('-p', '--print-freq', type=cli.positive, default=10,
                        help='steps between updates of the losses shown (default 10)')
    parser.add_argument('--accumulate', type=cli.positive, metavar='N',
                        help='the batch passes the encoder in N parts, to fit a large batch on a small GPU: the same '
                             'losses and gradients, also of BatchNorm and the objective, for a third more time')
    parser.add_argument('--checkpoint-activations', action='store_true',
                        help=f'compute activations again in the backward: the same as --accumulate '
                             f'{CHECKPOINTED_PARTS}')
    parser.add_argument('--compile', action='store_true',
                        help='torch.compile the model and the objective: minutes at the start, then faster steps')
    parser.add_argument('--data-device', choices=('auto', 'cuda', 'cpu'), default='auto',
                        help='where the clips lie when a GPU trains: there, in host memory (each next batch is copied '
                             'meanwhile), or (auto) there if they fit beside what the first epoch took')
    parser.add_argument('--data-dtype', choices=DTYPES, default='float32',
                        help='the precision in which clips are kept; views are always float32 (default float32)')
    options.add_machine_flags(parser, amp='auto')
    options.add_ignored_flags(
        parser, workers='the clips lie on the training device, there are no loader workers',
        momentum='Adam is used, with its usual betas', world_size='torchrun or SLURM sets the number of processes',
        dist_url='torchrun or SLURM sets the address', local_rank='torchrun or SLURM sets the rank')
    args = options.parse(parser, argv)
    args.weights = loss_weights(args)
    return args


def loss_weights(args):
    """The published weights, less the term that --objective leaves out, or as the flags say."""
    weights = Weights(**({args.objective[3:]: 0} if args.objective.startswith('no-') else {}))
    given = {name: getattr(args, f'{name}_weight') for name in Weights._fields}
    return weights._replace(**{name: weight for name, weight in given.items() if weight is not None})


def about(args):
    """What a checkpoint says of itself."""
    names = ('objective', 'modalities', 'dataset', 'protocol', 'hidden_size', 'seed', 'epochs', 'batch_size')
    return {name: getattr(args, name) for name in names}


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
    optimizer, scaler = optimizer_and_scaler(model, args, device)
    path = checkpoint.newest(args.checkpoint_path) if args.resume == 'auto' else args.resume
    first_epoch = 0
    if path is not None:
        saved = checkpoint.read(path)
        for name in ('objective', 'modalities'):
            was = saved.get('about', {}).get(name, getattr(args, name))
            if was != getattr(args, name):
                raise cli.InputError(f'{path} was trained with {name} {was}, not {getattr(args, name)}')
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


def train_epoch(trained, objective, feeder, optimizer, scaler, epoch, args, bar):
    """One epoch; the mean of each loss, and clips a second over all processes."""
    device = feeder.source.device
    dtype = amp_dtype(args.amp, device)
    trained.train()
    sums, began = torch.zeros(len(Losses._fields), device=device), time.perf_counter()
    for step, batch in enumerate(feeder.epoch(epoch), 1):
        sums += train_step(trained, batch, optimizer, scaler, dtype, args.weights, objective)
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
