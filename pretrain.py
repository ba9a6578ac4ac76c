"""Pre-train UmURL without labels.

One process (a CPU, or one GPU):   python pretrain.py --checkpoint-path ./checkpoints/ntu60_xsub
One machine, four GPUs:            torchrun --nproc_per_node=4 pretrain.py …
Two machines, on each:             torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d \\
                                       --rdzv_endpoint=HOST:29500 pretrain.py …
SLURM:                             srun --ntasks-per-node=4 --gpus-per-node=4 python pretrain.py …

Writes into --checkpoint-path: checkpoint_{epoch}.pth.tar after the first, every 50th and the last epoch, log.jsonl and
tensorboard/. Of the losses shown, total = 5 intra + 5 inter + reg; reg already includes its weights.
"""
import math
import sys
import time
from pathlib import Path

import torch

from data_gen import cli
from feeder.dataset import load_split
from feeder.feeders import VIEW_FRAMES, PretrainFeeder
from feeder.prefetch import Prefetcher, Resident, fits_on
from model.objective import Losses, Weights, umurl_objective
from model.umurl import EarlyFusionBaseline, UmURL
from tools import checkpoint, options
from tools.device import amp_dtype, autocast, compiled, memory_advice
from tools.distributed import check_agreement, data_parallel, gather, process_group, rank, world_size
from tools.log import LOG_FILES, RunLog
from tools.results import move_aside
from tools.schedule import adjust_learning_rate, lr_factors

SAVE_EVERY = 50  # epochs
# What a run cannot change when it resumes; learning rate, schedule, weight decay and the number of epochs it can.
FIXED = ('objective', 'modalities', 'weights', 'dataset', 'protocol', 'hidden_size', 'seed', 'batch_size')
RECORDED = (*FIXED, 'epochs', 'lr', 'schedule', 'cos', 'weight_decay')


@memory_advice('use more --encoder-chunks, or a smaller --batch-size')
def main(argv=None):
    args = parse_args(argv)
    config = {name: getattr(args, name) for name in RECORDED} | {'weights': args.weights._asdict()}
    resume_path = checkpoint.newest(args.checkpoint_path) if args.resume == 'auto' else args.resume
    saved = read_resumable(resume_path, config) if resume_path else {'epoch': 0}
    first_epoch = saved['epoch'] if args.start_epoch is None else args.start_epoch
    if first_epoch >= args.epochs:
        if not resume_path:
            raise cli.InputError(f'--start-epoch {first_epoch} is not below --epochs')
        print(f'{resume_path}: finished already ({first_epoch} epochs); train longer with --epochs')
        return
    folder = options.data_folder(args.data_root, args.dataset, args.protocol)
    options.try_outputs(args.checkpoint_path / LOG_FILES[0])
    with process_group(args.device) as device:
        dataset = load_split(folder, 'train', quiet=rank() != 0)
        feeder = PretrainFeeder(dataset, batch_size_per_process(args.batch_size, len(dataset)), args.seed, rank(),
                                world_size(), args.modalities, fused_only=args.objective == 'baseline',
                                source=frames_source(dataset, device, args.data_device))
        model_without_ddp = build_model(args.objective, args.modalities, args.hidden_size, args.encoder_chunks,
                                        dataset.frames.shape[1:], args.seed, device)
        optimizer = torch.optim.Adam(model_without_ddp.parameters(), args.lr, weight_decay=args.weight_decay,
                                     fused=True)
        dtype = amp_dtype(args.amp, device)
        loss_scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

        if resume_path:
            restore(saved, resume_path, args.weight_decay, model_without_ddp, optimizer, loss_scaler)
        check_agreement(first_epoch, 'the epoch to resume from')
        start_folder(args.checkpoint_path, resume_path, first_epoch)

        model, objective = data_parallel(model_without_ddp, device), umurl_objective
        if args.compile:
            model, objective = compiled(model), compiled(objective)
        log = RunLog(args.checkpoint_path, config, device, first_epoch)
        factors = lr_factors(args.epochs, args.schedule, args.cos)
        with cli.progress(None, 'pre-training', args.epochs * len(feeder), 'step', initial=first_epoch * len(feeder),
                          disable=rank() != 0) as bar:
            for epoch in range(first_epoch, args.epochs):
                lr = args.lr * factors[epoch]
                adjust_learning_rate(optimizer, lr)
                scalars = train_one_epoch(model, objective, feeder, optimizer, loss_scaler, epoch, args.weights, dtype,
                                          args.print_freq, bar)
                log.epoch(epoch, scalars | {'lr': lr})
                if rank() == 0 and (epoch % SAVE_EVERY == 0 or epoch == args.epochs - 1):
                    checkpoint.save(checkpoint.path_of(args.checkpoint_path, epoch), model_without_ddp, optimizer,
                                    epoch + 1, scaler=loss_scaler.state_dict(), config=config)
        log.close()


def train_one_epoch(model, objective, feeder, optimizer, loss_scaler, epoch: int, weights: Weights, dtype,
                    print_freq: int, bar) -> dict[str, float]:
    """Train for one epoch; the mean of each loss, and clips per second over all processes."""
    model.train()
    device = feeder.source.device
    sums, started = torch.zeros(len(Losses._fields), device=device), time.perf_counter()
    for step, (uni, fused) in enumerate(feeder.epoch(epoch), 1):
        with autocast(dtype, device):
            projections = model(uni, fused)
        losses = objective(gather(projections), weights)
        optimizer.zero_grad(set_to_none=True)
        loss_scaler.scale(losses.total).backward()
        loss_scaler.step(optimizer)
        loss_scaler.update()

        sums += torch.stack(losses).detach()  # nothing up to here waits for the device
        bar.update()
        if step % print_freq == 0 or step == len(feeder):
            means = dict(zip(Losses._fields, (sums / step).tolist(), strict=True))
            if not math.isfinite(means['total']):
                sys.exit(f'error: the loss is not finite in epoch {epoch}, step {step}; the last checkpoint is good')
            bar.set_postfix(epoch=epoch, total=f'{means["total"]:.3f}', refresh=False)
    num_clips = len(feeder) * feeder.batch_size * world_size()
    return means | {'clips_per_second': num_clips / (time.perf_counter() - started)}


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    options.add_data_flags(parser, '--pre-dataset')
    flag('--checkpoint-path', type=Path, default=Path('checkpoints/ntu60_xsub'), metavar='DIR',
         help='folder for checkpoints and logs (default checkpoints/ntu60_xsub)')
    flag('--resume', metavar='PATH|auto', help='continue from a checkpoint; auto: the newest in --checkpoint-path')
    flag('--hidden-size', type=cli.even_int, default=1024, help='encoder width (default 1024)')
    flag('--objective', choices=('umurl', 'baseline', 'no-intra', 'no-inter'), default='umurl',
         help="default umurl; the others are the paper's simple baseline (two fused views) and its ablations")
    options.add_modalities_flag(parser)
    for name, weight in Weights()._asdict().items():
        flag(f'--{name}-weight', type=cli.non_negative_float, metavar='W', help=f'in the loss (default {weight})')
    flag('--epochs', type=cli.positive_int, default=451, help='default 451')
    flag('--start-epoch', type=cli.non_negative_int, help='the first epoch (default 0, or what --resume says)')
    flag('-b', '--batch-size', type=cli.positive_int, default=512, help='of all processes together (default 512)')
    flag('--lr', '--learning-rate', type=cli.non_negative_float, default=5e-4, help='default 5e-4')
    flag('--schedule', type=int, nargs='*', default=[351], help='epochs at which --lr drops to a tenth (default 351)')
    flag('--cos', action='store_true', help='cosine schedule instead of --schedule')
    flag('--wd', '--weight-decay', dest='weight_decay', type=cli.non_negative_float, default=1e-5, help='default 1e-5')
    flag('-p', '--print-freq', type=cli.positive_int, default=10, help='steps between looks at the loss (default 10)')
    flag('--encoder-chunks', type=cli.positive_int, default=1, metavar='N',
         help='encode the batch in N chunks to save GPU memory: same losses and gradients, a third more time')
    flag('--compile', action='store_true', help='torch.compile the model: minutes at the start, then faster steps')
    flag('--data-device', choices=('auto', 'cuda', 'cpu'), default='auto',
         help='keep the clips on the GPU or in host memory; auto: on the GPU if they take up to a quarter of it')
    options.add_machine_flags(parser, amp='auto')
    options.accept_official_flags(parser)
    args = options.parse_args(parser, argv)
    args.resume = args.resume or None  # the official scripts pass --resume ''
    args.weights = loss_weights(args.objective, {name: getattr(args, f'{name}_weight') for name in Weights._fields})
    return args


def loss_weights(objective: str, overrides: dict[str, float | None]) -> Weights:
    """The published weights, without the term that the objective leaves out, or as the flags say."""
    weights = Weights(**({objective.removeprefix('no-'): 0} if objective.startswith('no-') else {}))
    return weights._replace(**{name: weight for name, weight in overrides.items() if weight is not None})


def batch_size_per_process(batch_size: int, num_clips: int) -> int:
    """This process's share of the global batch. Prints a note if the batch had to be made smaller."""
    batch = min(batch_size, num_clips)
    batch -= batch % world_size()
    if batch < 2 * world_size():
        raise cli.InputError(f'--batch-size {batch_size}, {num_clips} clips: BatchNorm needs 2 clips per process')
    if batch < batch_size and rank() == 0:
        reason = f'only {num_clips} clips' if num_clips < batch_size else f'shared by {world_size()} processes'
        print(f'note: the batch size is {batch} ({reason})', file=sys.stderr)
    return batch // world_size()


def frames_source(dataset, device: torch.device, data_device: str):
    """Keep the clips on the training device, or in host memory if --data-device says so or they are too large."""
    on_host = device.type == 'cuda' and (data_device == 'cpu' or data_device == 'auto' and not fits_on(dataset, device))
    return Prefetcher(dataset, device) if on_host else Resident(dataset, device)


def build_model(objective: str, modalities, hidden_size: int, encoder_chunks: int, frame_shape, seed: int, device):
    """The model on the device, initialised from the seed; frame_shape: bodies, joints, coordinates."""
    if device.type == 'cpu' and hidden_size > 256 and rank() == 0:
        print('note: no GPU is used; --hidden-size 128 --batch-size 128 suits a CPU', file=sys.stderr)
    torch.manual_seed(seed)
    network = EarlyFusionBaseline if objective == 'baseline' else UmURL
    model = network(math.prod(frame_shape), VIEW_FRAMES * frame_shape[-1], hidden_size, encoder_chunks=encoder_chunks)
    model.freeze_unused(modalities)
    return model.to(device)


def read_resumable(path: Path, config: dict) -> dict:
    """Read a checkpoint of ours or of the official code; InputError if it was trained with other settings."""
    saved = checkpoint.read(path)
    recorded = saved.get('config') or saved.get('about') or {}  # 'about': written by version 1
    if not isinstance(saved.get('epoch'), int):
        raise cli.InputError(f'{path} does not say how many epochs it was trained for, so it cannot be resumed')
    for name in RECORDED if saved['epoch'] == config['epochs'] else FIXED:
        if name in recorded and recorded[name] != config[name]:
            raise cli.InputError(f'{path} was trained with {name} {recorded[name]}, not {config[name]}')
    return saved


def restore(saved: dict, path: Path, weight_decay: float, model, optimizer, loss_scaler) -> None:
    """Load model, optimizer and loss scaler from a checkpoint."""
    checkpoint.load_into(model, saved['state_dict'], path)
    checkpoint.load_optimizer(optimizer, saved, path, weight_decay)
    if loss_scaler.is_enabled() and saved.get('scaler'):
        loss_scaler.load_state_dict(saved['scaler'])


def start_folder(folder: Path, resume_path, first_epoch: int) -> None:
    """Create the run's folder; move an earlier run's files aside unless this run resumes."""
    if rank() != 0:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if resume_path is not None:
        print(f'resuming from {resume_path} at epoch {first_epoch}')
    elif checkpoints := checkpoint.list_checkpoints(folder):
        logs = [folder / name for name in LOG_FILES if (folder / name).exists()]
        target = move_aside(*checkpoints, *logs)
        print(f'note: the earlier run was moved to {target} (--resume auto continues it)', file=sys.stderr)


if __name__ == '__main__':
    cli.run(main)
