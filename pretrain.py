"""Pre-train UmURL without labels.

One process (a CPU, or one GPU):   python pretrain.py --checkpoint-path ./checkpoints/ntu60_xsub
One machine, four GPUs:            torchrun --nproc_per_node=4 pretrain.py …
Two machines, on each:             torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d \\
                                       --rdzv_endpoint=HOST:29500 pretrain.py …
SLURM:                             srun --ntasks-per-node=4 --gpus-per-node=4 python pretrain.py …

Writes into --checkpoint-path: checkpoint_{epoch}.pth.tar after the first, every 50th and the last
epoch, checkpoint_last.pth.tar every ten minutes, log.jsonl and tensorboard/. Of the losses shown,
total = 5 intra + 5 inter + reg; reg already includes its weights. std_z_j and so on are the
projections' standard deviations: near 0 is collapse. SIGTERM, SIGINT and SIGUSR1 end a run after
its current step; --resume auto continues there, with the same result.
"""

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from data_gen import manifest
from data_gen.protocols import PROTOCOLS, Data
from feeder.augmentations import Augmentation
from feeder.dataset import ClipDataset, load_split
from feeder.feeders import VIEW_FRAMES, PretrainFeeder, views_of
from feeder.modalities import MODALITIES
from feeder.prefetch import frames_source
from model.objective import Weights, umurl_objective
from model.umurl import EarlyFusionBaseline, UmURL
from tools import checkpoint, options
from tools.common import cli
from tools.common.locks import folder_lock
from tools.device import autocast, memory_advice
from tools.distributed import (
    check_agreement,
    data_parallel,
    gather,
    launcher_environment,
    process_group,
    rank,
    world_size,
)
from tools.schedule import adjust_learning_rate, lr_factors
from tools.training.compilation import compiled
from tools.training.knn_monitor import KnnMonitor
from tools.training.log import LOG_FILES, RunLog
from tools.training.monitor import Monitor, projection_names
from tools.training.precision import choose_precision
from tools.training.recipes import RECIPES, Recipe
from tools.training.resume import FIXED, FREE, read_resumable, restore, start_folder
from tools.training.run_checkpoints import RunCheckpoints
from tools.training.stopping import StopSignals


@memory_advice('use more --encoder-chunks, or a smaller --batch-size')
def main(argv=None):
    args = parse_args(argv)
    data = options.data_of(args)
    options.try_outputs(args.checkpoint_path / LOG_FILES[0])
    parts = (manifest.read(data.folder) or {'parts': {}})['parts']
    launcher = launcher_environment() or {'RANK': '0', 'WORLD_SIZE': '1'}
    config = {name: getattr(args, name) for name in FIXED + FREE} | {
        'weights': args.weights._asdict(),
        'overrides': args.overrides,
        'data': parts.get('train', {}).get('hash'),
        'processes': int(launcher['WORLD_SIZE']),
        'device': args.device.split(':')[0],
    }
    lock = (
        folder_lock([args.checkpoint_path], 'training')
        if launcher['RANK'] == '0'
        else nullcontext()
    )
    with lock, process_group(args.device) as device:
        stop_signal = train(args, config, data, device)
    if stop_signal:
        if launcher['RANK'] == '0':
            print(
                f'stopped by {signal.Signals(stop_signal).name}; the same command with --resume '
                'auto continues'
            )
        sys.exit(128 + stop_signal)


def train(args, config: dict, data: Data, device: torch.device) -> int:
    """Train until the last epoch or a signal to stop; returns the signal, or 0."""
    stop = StopSignals(device)
    resume_path, saved = read_resumable(args.resume, args.checkpoint_path, config)
    if args.start_epoch is not None:
        saved |= {'epoch': args.start_epoch, 'step': 0}
    first_epoch, first_step = saved['epoch'], saved.get('step', 0)
    if first_epoch >= args.epochs:
        if not resume_path:
            raise cli.InputError(f'--start-epoch {first_epoch} is not below --epochs')
        print(
            f'{resume_path}: finished already ({cli.plural(first_epoch, "epoch")}); train longer '
            'with --epochs, or '
            'start afresh with --resume none'
        )
        return 0
    dataset = load_split(data.folder, 'train', rank() != 0, args.data_device)
    feeder = build_feeder(args, dataset, device)
    model_without_ddp = build_model(
        args.objective,
        args.modalities,
        args.hidden_size,
        args.encoder_chunks,
        dataset.frames.shape[1:],
        args.seed,
        device,
    )
    optimizer = torch.optim.Adam(
        model_without_ddp.parameters(), args.lr, weight_decay=args.weight_decay, fused=True
    )
    recorded = checkpoint.config_of(resume_path, saved) or {}
    dtype, precision, text = choose_precision(args.amp, device, args.hidden_size, recorded)
    config = config | precision
    loss_scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    if resume_path:
        restore(saved, resume_path, args.weight_decay, model_without_ddp, optimizer, loss_scaler)
    half_epoch = saved.get('monitor') if first_step else None
    del saved  # its tensors
    if first_step >= len(feeder):
        raise cli.InputError(
            f'{resume_path} is at step {first_step} of an epoch, which has {len(feeder)} here: use '
            'a '
            'number of processes that divides --batch-size'
        )
    check_agreement((first_epoch, first_step), 'the step to resume from')
    start_folder(args.checkpoint_path, resume_path, first_epoch, first_step)

    objective = (
        compiled(model_without_ddp, umurl_objective, device)
        if args.compile == 'on'
        else umurl_objective
    )
    if rank() == 0:
        print(
            f'precision: {text}; '
            + ('not compiled' if objective is umurl_objective else 'compiled')
        )
    model = data_parallel(model_without_ddp, device)
    monitor = Monitor(
        device, projection_names(args.modalities, args.objective), loss_scaler.is_enabled()
    )
    checkpoints = RunCheckpoints(
        args.checkpoint_path,
        config,
        model_without_ddp,
        optimizer,
        loss_scaler,
        monitor,
        args.save_every,
        args.save_minutes,
    )
    knn = KnnMonitor(dataset, data, args.seed) if args.knn_every and rank() == 0 else None
    factors = lr_factors(args.epochs, args.schedule, args.cos)
    monitor.start_epoch(first_epoch, half_epoch)
    with (
        RunLog(args.checkpoint_path, config, device, first_epoch) as log,
        cli.progress(
            None,
            'pre-training',
            args.epochs * len(feeder),
            'step',
            disable=rank() != 0,
            initial=first_epoch * len(feeder) + first_step,
        ) as bar,
    ):
        for epoch in range(first_epoch, args.epochs):
            if epoch > first_epoch:
                monitor.start_epoch(epoch)
            adjust_learning_rate(optimizer, args.lr * factors[epoch])
            for step in train_steps(
                model,
                objective,
                feeder,
                optimizer,
                loss_scaler,
                epoch,
                first_step,
                args.weights,
                dtype,
                monitor,
            ):
                bar.update()
                if step % args.print_freq == 0:
                    bar.set_postfix(
                        epoch=epoch, total=f'{monitor.means()["total"]:.3f}', refresh=False
                    )
                stop_signal = stop.agreed()
                if step < len(feeder):
                    checkpoints.save_last(epoch, step, now=stop_signal)
                    if stop_signal:
                        return stop_signal
            first_step = 0
            numbers = monitor.means() | {'lr': args.lr * factors[epoch]}
            if knn and (epoch + 1) % args.knn_every == 0:
                numbers |= knn.accuracy(model_without_ddp.backbone, args.modalities, device, dtype)
            log.epoch(epoch, numbers)
            is_last = epoch + 1 == args.epochs
            checkpoints.after_epoch(epoch, is_last, now=stop_signal)
            if stop_signal and not is_last:
                return stop_signal
    return 0


def train_steps(
    model,
    objective,
    feeder,
    optimizer,
    loss_scaler,
    epoch: int,
    first_step: int,
    weights: Weights,
    dtype,
    monitor: Monitor,
) -> Iterator[int]:
    """Train through an epoch from `first_step` on; yields the number of finished steps after each."""
    model.train()
    device = feeder.source.device
    for step, (uni, fused) in enumerate(feeder.epoch(epoch, first_step), first_step + 1):
        with autocast(dtype, device):
            projections = model(uni, fused)
        projections = gather(projections)
        losses = objective(projections, weights)
        optimizer.zero_grad(set_to_none=True)
        loss_scaler.scale(world_size() * losses.total).backward()  # see tools.distributed.Gather
        loss_scaler.unscale_(optimizer)
        # An infinite bound clips nothing; this is the gradient's norm without waiting for the
        # device.
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf)
        loss_scaler.step(optimizer)
        loss_scaler.update()
        monitor.add(step, losses, projections, grad_norm)
        yield step


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag, describe = parser.add_argument, partial(options.describe, RECIPES)
    options.add_data_flags(parser, '--pre-dataset')
    flag(
        '--checkpoint-path',
        type=Path,
        metavar='DIR',
        help='folder for checkpoints and logs (default checkpoints/ntu60_xsub, named after data set and protocol)',
    )
    flag(
        '--resume',
        metavar='PATH|auto|none',
        default='none',
        help='continue from a checkpoint; auto: from where the run in --checkpoint-path stopped (default none)',
    )
    flag(
        '--save-every',
        type=cli.positive_int,
        default=50,
        metavar='EPOCHS',
        help='keep a checkpoint (default 50)',
    )
    flag(
        '--save-minutes',
        type=cli.non_negative_float,
        default=10,
        metavar='MINUTES',
        help='replace checkpoint_last.pth.tar, from which a stopped run continues (default 10)',
    )
    flag(
        '--knn-every',
        type=cli.positive_int,
        metavar='EPOCHS',
        help='log the k-NN accuracy of up to 2,000 training clips among each other, and its seconds (default: never)',
    )
    flag('--hidden-size', type=cli.even_int, default=1024, help='encoder width (default 1024)')
    flag(
        '--objective',
        choices=('umurl', 'baseline', 'no-intra', 'no-inter'),
        default='umurl',
        help="default umurl; the others are the paper's simple baseline (two fused views) and its ablations",
    )
    options.add_modalities_flag(parser)
    flag(
        '--recipe',
        choices=RECIPES,
        default='published',
        help='defaults of the next flags: as published, or for about a thousand clips (default published)',
    )
    for name in Weights._fields:
        flag(
            f'--{name}-weight',
            type=cli.non_negative_float,
            metavar='W',
            help=f'in the loss; {describe(f"{name}_weight")}',
        )
    flag(
        '--crop',
        type=cli.non_negative_float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help=f'shares of a clip between which the length of a crop is drawn; {describe("crop")}',
    )
    flag(
        '--crop-frames',
        type=cli.positive_int,
        metavar='N',
        help=f'of a crop, at least; {describe("crop_frames")}',
    )
    flag(
        '--shear', type=cli.non_negative_float, metavar='S', help=f'up to +-S; {describe("shear")}'
    )
    flag('--epochs', type=cli.positive_int, help=describe('epochs'))
    flag(
        '--start-epoch',
        type=cli.non_negative_int,
        help='the first epoch (default 0, or what --resume says)',
    )
    flag(
        '-b',
        '--batch-size',
        type=cli.positive_int,
        help=f'of all processes together; {describe("batch_size")}',
    )
    flag('--lr', '--learning-rate', type=cli.non_negative_float, help=describe('lr'))
    flag(
        '--schedule',
        type=int,
        nargs='*',
        help=f'epochs at which --lr drops to a tenth; {describe("schedule")}',
    )
    flag('--cos', action='store_true', help='cosine schedule instead of --schedule')
    flag(
        '--wd',
        '--weight-decay',
        dest='weight_decay',
        type=cli.non_negative_float,
        default=1e-5,
        help='default 1e-5',
    )
    flag(
        '-p',
        '--print-freq',
        type=cli.positive_int,
        default=10,
        help='steps between looks at the loss (default 10)',
    )
    flag(
        '--encoder-chunks',
        type=cli.positive_int,
        default=1,
        metavar='N',
        help='encode the batch in N chunks to save GPU memory: same losses and gradients, a third more time',
    )
    flag(
        '--compile',
        nargs='?',
        choices=('auto', 'on', 'off'),
        const='on',
        default='auto',
        help='torch.compile the model: minutes at the start, then faster steps; auto (the default) is off',
    )
    flag(
        '--data-device',
        choices=('auto', 'cuda', 'cpu', 'disk'),
        default='auto',
        help='where the clips stay; auto: on the GPU if they take a quarter of it, on disk if half of the host memory',
    )
    options.add_machine_flags(parser, amp='auto')
    options.accept_official_flags(parser)
    args = options.parse_args(parser, argv)
    if args.resume in ('', 'none'):  # the official scripts pass --resume ''
        args.resume = None
    run = f'{args.dataset}_{PROTOCOLS[args.protocol]}'.removesuffix(
        '_split'
    )  # as in script_pretrain.sh
    args.checkpoint_path = args.checkpoint_path or Path('checkpoints', run)
    apply_recipe(args)
    return args


def apply_recipe(args) -> None:
    """Fill in what the flags leave open; args.overrides names the values of the recipe that flags
    replace.
    """
    left_out = f'{args.objective.removeprefix("no-")}_weight'  # by --objective no-intra or no-inter
    args.overrides = [name for name in Recipe._fields if getattr(args, name) is not None]
    for name, value in RECIPES[args.recipe]._asdict().items():
        if name not in args.overrides:
            setattr(
                args,
                name,
                0 if name == left_out else list(value) if isinstance(value, tuple) else value,
            )
    args.weights = Weights(*(getattr(args, f'{name}_weight') for name in Weights._fields))
    if not 0 < args.crop[0] <= args.crop[1] <= 1:
        raise cli.InputError(
            f'--crop {args.crop[0]:g} {args.crop[1]:g}: shares of a clip, 0 < LOW <= HIGH <= 1'
        )


def build_feeder(args, dataset: ClipDataset, device: torch.device) -> PretrainFeeder:
    return PretrainFeeder(
        dataset,
        batch_size_per_process(args.batch_size, len(dataset)),
        args.seed,
        rank(),
        world_size(),
        views_of(args.modalities, fused_only=args.objective == 'baseline'),
        frames_source(dataset, device, args.data_device),
        Augmentation(args.crop, args.crop_frames, args.shear),
    )


def batch_size_per_process(batch_size: int, num_clips: int) -> int:
    """This process's share of the global batch. Prints a note if the batch had to be made smaller."""
    batch = batch_size - batch_size % world_size()
    if min(batch, num_clips) < 2 * world_size():
        raise cli.InputError(
            f'--batch-size {batch_size}, {num_clips} clips: BatchNorm needs 2 clips per process'
        )
    if min(batch, num_clips) < batch_size and rank() == 0:
        reason = (
            f'only {num_clips} clips'
            if num_clips < batch
            else f'shared by {world_size()} processes'
        )
        print(f'note: the batch size is {min(batch, num_clips)} ({reason})', file=sys.stderr)
    return batch // world_size()


def build_model(
    objective: str,
    modalities,
    hidden_size: int,
    encoder_chunks: int,
    frame_shape,
    seed: int,
    device,
):
    """The model on the device, initialised from the seed; frame_shape: bodies, joints, coordinates."""
    if device.type == 'cpu' and hidden_size > 256 and rank() == 0:
        print(
            'note: no GPU is used; --hidden-size 128 --batch-size 128 suits a CPU', file=sys.stderr
        )
    torch.manual_seed(seed)
    network = EarlyFusionBaseline if objective == 'baseline' else UmURL
    model = network(
        math.prod(frame_shape),
        VIEW_FRAMES * frame_shape[-1],
        hidden_size,
        encoder_chunks=encoder_chunks,
        modalities=MODALITIES,
    )
    model.freeze_unused(modalities)
    return model.to(device)


if __name__ == '__main__':
    cli.run(record(main))  # torchrun shows the error of the process that failed first
