"""Pre-train UmURL without labels.

One process (a CPU, or one GPU):   python pretrain.py --checkpoint-path ./checkpoints/ntu60_xsub
One machine, four GPUs:            torchrun --nproc_per_node=4 pretrain.py …
Two machines, on each:             torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d \\
                                       --rdzv_endpoint=HOST:29500 pretrain.py …
SLURM:                             sbatch script_pretrain_slurm.sh
mpirun:                            mpirun -n 4 -x MASTER_ADDR=HOST python pretrain.py …

Writes into --checkpoint-path: checkpoint_{epoch}.pth.tar after the first, every 50th and the last
epoch, checkpoint_last.pth.tar every ten minutes, log.jsonl and tensorboard/. The loss
`total` is intra and inter times their weights (5 and 5 as published) plus reg, which contains its
own weights. std_z_j and so on in log.jsonl are the standard deviations of the projections: near 0 is
collapse. SIGTERM, SIGINT and SIGUSR1 end a run after its current step (on several GPUs, within ten
steps); --resume auto continues there, with the same result.
"""

import tools.common.start  # noqa: F401

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record

from data_gen import manifest
from data_gen.protocols import PROTOCOLS
from feeder.augmentations import HELP, Augmentation
from feeder.dataset import ClipDataset, load_split
from feeder.feeders import DRAWS_VERSION, VIEW_FRAMES, PretrainFeeder, views_of
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
from tools.training.recipes import FEWEST_CLIPS, RECIPES, batch_size_for, steps_per_epoch
from tools.training.resume import continued, read_resumable, start_folder
from tools.training.run_config import RunConfig
from tools.training.state import RunCheckpoints, TrainState
from tools.training.stopping import PROBLEM, StopSignals
from tools.training.watch import Watch


@memory_advice('use more --encoder-chunks, or a smaller --batch-size')
def main(argv=None):
    args = parse_args(argv)
    options.try_outputs(args.checkpoint_path / LOG_FILES[0])
    launcher = launcher_environment() or {'RANK': '0'}
    is_first = launcher['RANK'] == '0'
    lock = folder_lock([args.checkpoint_path], 'training') if is_first else nullcontext()
    with lock, process_group(args.device) as device:
        stop = StopSignals(device)
        try:
            is_finished = train(args, device, stop)
        except BaseException:
            stop.restore_handlers()
            raise
    if not is_finished:
        stop.leave()
    stop.restore_handlers()


def train(args, device: torch.device, stop: StopSignals) -> bool:
    """Train to the last epoch, or until all processes agree to stop; then returns False."""
    path, saved = read_resumable(args.resume, args.checkpoint_path)
    recorded = checkpoint.config_of(path, saved) or {}
    embedded = list(MODALITIES)
    if path:
        embedded = options.known_modalities(saved['state_dict'], path)
    modalities = args.modalities or recorded.get('modalities', embedded)
    checkpoint.check_modalities(modalities, embedded, path)
    config = run_config(args, modalities, device)
    config = continued(config, recorded, path, saved['epoch'])
    if args.start_epoch is not None:
        saved |= {'epoch': args.start_epoch, 'step': 0}
    if saved['epoch'] >= config.epochs:
        say_finished(path, saved['epoch'])
        return True

    data = options.data_of(args)
    dataset = load_split(data.folder, 'train', rank() != 0, args.data_device)
    config = with_batch_size(config, len(dataset))
    feeder = build_feeder(config, dataset, args.data_device, device)
    dtype, precision, why = choose_precision(args.amp, device, config.hidden_size, recorded)
    config = replace(config, **precision)
    frame_shape = dataset.frames.shape[1:]
    state = build_state(config, embedded, args.encoder_chunks, frame_shape, dtype, device)
    state.load(saved, path, config.weight_decay)
    del saved  # its tensors
    check_start(state, len(feeder), path)
    start_folder(args.checkpoint_path, path, state.epoch, state.step)
    objective = umurl_objective
    if args.compile == 'on':
        objective = compiled(state.model, objective, device)
    if rank() == 0:
        how = 'not compiled' if objective is umurl_objective else 'compiled'
        print(f'precision: {why}; {how}')
    losses_of = build_losses(state.model, objective, config.weights, dtype, device)

    checkpoints = RunCheckpoints(args.checkpoint_path, config, args.save_every, args.save_minutes)
    knn = KnnMonitor(dataset, data, config.seed) if args.knn_every and rank() == 0 else None
    factors = lr_factors(config.epochs, config.schedule, config.cos)
    with (
        RunLog(args.checkpoint_path, config.entries(), device, state.epoch) as log,
        progress_bar(state, config.epochs, len(feeder)) as bar,
    ):
        watch = Watch(state, len(feeder), stop, checkpoints, bar, args.print_freq)
        while state.epoch < config.epochs:
            if state.step == 0:
                state.monitor.start_epoch(state.epoch)
            lr = config.lr * factors[state.epoch]
            adjust_learning_rate(state.optimizer, lr)
            train_one_epoch(state, feeder, losses_of, watch)
            if state.step < len(feeder) or stop.reason == PROBLEM:
                return False
            state.finish_epoch()
            is_last = state.epoch == config.epochs
            if rank() == 0:
                numbers = state.monitor.means() | {'lr': lr}
                if knn and state.epoch % args.knn_every == 0:
                    numbers |= knn.accuracy(state.model.backbone, config.modalities, device, dtype)
                log.epoch(state.epoch - 1, numbers)
            checkpoints.after_epoch(state, is_last, now=stop.reason)
            if stop.reason and not is_last:
                return False
    if rank() == 0:
        say_next(args)
    return True


def train_one_epoch(
    state: TrainState, feeder: PretrainFeeder, losses_of: Callable, after_step: Callable
) -> None:
    """Train through an epoch from `state.step` on, until `after_step()` returns something true.

    losses_of(*views): the Losses of a step, and the projections (2k, B, D) of all processes.
    """
    state.model.train()
    optimizer, loss_scaler = state.optimizer, state.loss_scaler
    for views in feeder.epoch(state.epoch, state.step):
        losses, projections = losses_of(*views)
        optimizer.zero_grad(set_to_none=True)
        loss_scaler.scale(world_size() * losses.total).backward()  # see tools.distributed.Gather
        loss_scaler.unscale_(optimizer)
        # An infinite bound clips nothing; this is the gradient's norm without waiting for the
        # device.
        grad_norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), math.inf)
        loss_scaler.step(optimizer)
        loss_scaler.update()
        state.step += 1
        state.monitor.add(state.step, losses, projections, grad_norm)
        if after_step():
            break


def run_config(args, modalities: Sequence[str], device: torch.device) -> RunConfig:
    parts = (manifest.read(options.data_of(args).folder) or {'parts': {}})['parts']
    return RunConfig.from_flags(
        args,
        modalities=modalities,
        weights=Weights(*(getattr(args, f'{name}_weight') for name in Weights._fields)),
        augmentation=Augmentation(*(getattr(args, name) for name in Augmentation._fields)),
        data=parts.get('train', {}).get('hash'),
        draws_version=DRAWS_VERSION,
        processes=world_size(),
        device=device.type,
    )


def say_finished(path: Path | None, epochs: int) -> None:
    """Print that there is nothing left to train; InputError if that is due to --start-epoch."""
    if not path:
        raise cli.InputError(f'--start-epoch {epochs} is not below --epochs')
    print(
        f'{path}: finished already ({cli.plural(epochs, "epoch")}); train longer with --epochs, or '
        'start afresh with --resume none'
    )


def say_next(args) -> None:
    """Print the run's last checkpoint, and the command that evaluates it."""
    path = checkpoint.newest(args.checkpoint_path)
    command = ['python', 'action_retrieval.py', '--pretrained', str(path)]
    if args.data_root != options.DATA_ROOT:
        command += ['--data-root', str(args.data_root)]
    print(f'written: {path}; to evaluate it:\n{shlex.join(command)}')


def with_batch_size(config: RunConfig, num_clips: int) -> RunConfig:
    """The configuration with the recipe's batch size, or one for so many clips, if it has none.

    Prints a note if there are few clips.
    """
    if config.batch_size is None:
        published = RECIPES[config.recipe].batch_sizes.get((config.dataset, config.protocol))
        config = replace(config, batch_size=published or batch_size_for(num_clips))
        if not published and rank() == 0:
            steps = steps_per_epoch(num_clips, config.batch_size)
            print(f'--batch-size {config.batch_size}: {cli.plural(steps, "step")} an epoch')
    if rank() == 0:
        note_few_clips(config, num_clips)
    return config


def note_few_clips(config: RunConfig, num_clips: int) -> None:
    """Print a note if the clips are too few to learn from, or if an epoch is a single step."""
    if num_clips < FEWEST_CLIPS:
        clips = cli.plural(num_clips, 'training clip')
        print(
            f'note: {clips}: fewer than {FEWEST_CLIPS} are too few to learn from', file=sys.stderr
        )
    elif num_clips <= config.batch_size:
        advice = f'--batch-size {batch_size_for(num_clips)}'
        if config.recipe != 'small-data':
            advice = f'--recipe small-data {advice}'
        print(f'note: 1 step an epoch; {advice} suits few clips', file=sys.stderr)


def build_feeder(
    config: RunConfig, dataset: ClipDataset, data_device: str, device: torch.device
) -> PretrainFeeder:
    return PretrainFeeder(
        dataset,
        batch_size_per_process(config.batch_size, len(dataset)),
        config.seed,
        rank(),
        world_size(),
        views_of(config.modalities, fused_only=config.objective == 'baseline'),
        frames_source(dataset, device, data_device),
        config.augmentation,
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
        size = min(batch, num_clips)
        print(f'note: the batch size is {size} ({reason})', file=sys.stderr)
    return batch // world_size()


def build_state(
    config: RunConfig,
    embedded: Sequence[str],
    encoder_chunks: int,
    frame_shape,
    dtype: torch.dtype | None,
    device: torch.device,
) -> TrainState:
    """A model initialised from the seed, and its optimizer.

    embedded: the modalities that the model has modules for; frame_shape: bodies, joints,
    coordinates.
    """
    if device.type == 'cpu' and config.hidden_size > 256 and rank() == 0:
        advice = '--hidden-size 128'
        if config.batch_size > 128:
            advice += ' --batch-size 128'
        print(f'note: no GPU is used; {advice} suits a CPU', file=sys.stderr)
    torch.manual_seed(config.seed)
    network = EarlyFusionBaseline if config.objective == 'baseline' else UmURL
    model = network(
        math.prod(frame_shape),
        VIEW_FRAMES * frame_shape[-1],
        config.hidden_size,
        encoder_chunks=encoder_chunks,
        modalities=embedded,
    )
    model.freeze_unused(config.modalities)
    model.to(device)
    optimizer = torch.optim.Adam(
        model.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
    )
    loss_scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    names = projection_names(config.modalities, config.objective)
    return TrainState(
        model, optimizer, loss_scaler, Monitor(device, names, loss_scaler.is_enabled())
    )


def check_start(state: TrainState, num_steps: int, path: Path | None) -> None:
    """InputError if the epoch has no such step, or if the processes start at different ones."""
    if state.step >= num_steps:
        raise cli.InputError(
            f'{path} is at step {state.step} of an epoch, which has {num_steps} here: use a number '
            'of processes that divides --batch-size'
        )
    check_agreement((state.epoch, state.step), 'the step to resume from')


def build_losses(
    model: nn.Module,
    objective: Callable,
    weights: Weights,
    dtype: torch.dtype | None,
    device: torch.device,
) -> Callable:
    """losses_of(*views) for `train_one_epoch`, under autocast, over all processes."""
    model = data_parallel(model, device)

    def losses_of(*views):
        with autocast(dtype, device):
            projections = model(*views)
        projections = gather(projections)
        return objective(projections, weights), projections

    return losses_of


def progress_bar(state: TrainState, epochs: int, num_steps: int):
    return cli.progress(
        None,
        'pre-training',
        epochs * num_steps,
        'step',
        disable=rank() != 0,
        initial=state.epoch * num_steps + state.step,
    )


def parse_args(argv) -> argparse.Namespace:
    """The flags, with what they leave open from the recipe; `overrides` names the values of the
    recipe that flags replace.
    """
    parser = cli.Parser(__doc__)
    add_data_flags(parser)
    add_model_flags(parser.add_argument_group('model'))
    add_objective_flags(parser.add_argument_group('objective'))
    add_augmentation_flags(parser.add_argument_group('augmentation'))
    add_optimization_flags(parser.add_argument_group('optimization'))
    add_running_flags(parser)
    options.accept_official_flags(parser)
    given = vars(options.parse_args(parser, argv))
    defaults = RECIPES[given['recipe']].values()
    if given['objective'].startswith('no-'):
        term = given['objective'].removeprefix('no-')
        defaults[f'{term}_weight'] = 0
    args = argparse.Namespace(**defaults | given)
    args.overrides = [name for name in defaults if name in given]
    args.checkpoint_path = args.checkpoint_path or default_folder(args.dataset, args.protocol)
    check_augmentation(args)
    return args


def default_folder(dataset: str, protocol: str) -> Path:
    """As in script_pretrain.sh."""
    return Path('checkpoints', f'{dataset}_{PROTOCOLS[protocol]}'.removesuffix('_split'))


def check_augmentation(args) -> None:
    low, high = args.crop
    if not 0 < low <= high <= 1:
        raise cli.InputError(
            f'--crop {low:g} {high:g}: shares of a clip, 0 < SHORTEST <= LONGEST <= 1'
        )
    if args.crop_frames == 0:
        raise cli.InputError('--crop-frames 0: a crop has at least one frame')


def add_data_flags(parser: cli.Parser) -> None:
    group = options.add_data_flags(parser, '--pre-dataset')
    group.add_argument(
        '--data-device',
        choices=('auto', 'cuda', 'cpu', 'disk'),
        default='auto',
        help='where the clips stay; auto: on the GPU if they take at most a quarter of its free memory, on '
        'disk if they take more than half of the memory of the host',
    )


def add_model_flags(group) -> None:
    group.add_argument(
        '--hidden-size', type=cli.even_int, default=1024, help='encoder width (default 1024)'
    )
    options.add_modalities_flag(group)
    group.add_argument(
        '--encoder-chunks',
        type=cli.positive_int,
        default=1,
        metavar='N',
        help='encode the batch in N chunks to save GPU memory: same losses and gradients, about a third slower',
    )
    group.add_argument(
        '--compile',
        nargs='?',
        choices=('on', 'off'),
        const='on',
        default='off',
        help='torch.compile the model: minutes at the start, then faster steps (default off)',
    )


def add_objective_flags(group) -> None:
    group.add_argument(
        '--objective',
        choices=('umurl', 'baseline', 'no-intra', 'no-inter'),
        default='umurl',
        help="default umurl; the others are the paper's simple baseline (two fused views) and its ablations",
    )
    group.add_argument(
        '--recipe',
        choices=RECIPES,
        default='published',
        help='defaults of the weights, the augmentation and the optimization: as published, or for about a thousand clips (default published)',
    )
    weights = {name: recipe.weights for name, recipe in RECIPES.items()}
    for name in Weights._fields:
        group.add_argument(
            f'--{name.replace("_", "-")}-weight',
            type=cli.non_negative_float,
            default=argparse.SUPPRESS,
            metavar='W',
            help=f'in the loss; {options.describe(weights, name)}',
        )


def add_augmentation_flags(group) -> None:
    """A flag for each field of the augmentation, of the type of its default."""
    augmentations = {name: recipe.augmentation for name, recipe in RECIPES.items()}
    for name, default in Augmentation()._asdict().items():
        meaning = HELP.get(name, name)
        help = f'{meaning}; {options.describe(augmentations, name)}'
        options.add_typed_flag(group, name, default, help)


def add_optimization_flags(group) -> None:
    flag, describe = group.add_argument, partial(options.describe, RECIPES)
    unset = argparse.SUPPRESS
    flag('--epochs', type=cli.positive_int, default=unset, help=describe('epochs'))
    flag(
        '--start-epoch',
        type=cli.non_negative_int,
        help='the first epoch (default 0, or where --resume continues)',
    )
    flag(
        '-b',
        '--batch-size',
        type=cli.positive_int,
        default=unset,
        help='of all processes together (default: as published for NTU RGB+D, else a power of two by the number of clips)',
    )
    flag(
        '--lr',
        '--learning-rate',
        type=cli.non_negative_float,
        default=unset,
        help=describe('lr'),
    )
    flag(
        '--schedule',
        type=int,
        nargs='*',
        default=unset,
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


def add_running_flags(parser: cli.Parser) -> None:
    group = options.add_machine_flags(parser, amp='auto')
    flag = group.add_argument
    flag(
        '--checkpoint-path',
        type=Path,
        metavar='DIR',
        help='folder for checkpoints and logs (default checkpoints/ntu60_xsub, named after data set and protocol)',
    )
    flag(
        '--resume',
        type=os.path.expanduser,
        metavar='PATH|auto|none',
        default='none',
        help='continue from a checkpoint; auto: from where the run in --checkpoint-path stopped (default none)',
    )
    flag(
        '--save-every',
        type=cli.positive_int,
        default=50,
        metavar='EPOCHS',
        help='keep a checkpoint every so many epochs (default 50)',
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
        help='log the k-NN accuracy, across performers, on a fixed sample of up to 2,000 training clips, and its seconds (default: never)',
    )
    flag(
        '-p',
        '--print-freq',
        type=cli.positive_int,
        default=10,
        metavar='N',
        help='show the loss every N steps, but not more often than every two seconds (default 10)',
    )


if __name__ == '__main__':
    cli.run(record(main))  # torchrun shows the error of the process that failed first
