"""Time each stage of the project on this machine, with synthetic data.

    python -m tools.benchmark [--stages views step …] [--dtype float32 bf16] [--json FILE]
    python -m tools.benchmark --gpu-report DIR      # everything about training on one GPU, in under ten minutes

read       raw recordings: parse the text, normalise the skeletons
load       prepared arrays to memory
views      one batch's four augmented views, as streams
gradient   of the loss of one batch: the model and the objective, forward and backward
step       one whole step of pre-training: views, gradient, Adam
features   of a frozen encoder, all three modalities fused
probe      one epoch of the linear probe
knn        retrieval of one neighbour

GFLOP/s counts matrix products only. "of peak" compares it with a large torch.mm in the same dtype,
timed just before.
"""

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.benchmark import Timer

from data_gen.arrays import file_of
from data_gen.demo_recordings import write_recordings
from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.skeleton import BODIES, JOINTS, read_xyz
from feeder.dataset import ClipDataset, load_split
from feeder.feeders import VIEW_FRAMES, PretrainFeeder, generator_at
from feeder.modalities import MODALITIES
from model.objective import umurl_objective
from model.umurl import UmURL
from tools.common import cli
from tools.device import autocast, name_of, select
from tools.evaluation.features import extract_subsets
from tools.evaluation.flops import count_flops
from tools.evaluation.knn import knn_search
from tools.evaluation.probe import linear_head, train_one_epoch
from tools.options import add_device_flag, try_outputs

STAGES = ('read', 'load', 'views', 'gradient', 'step', 'features', 'probe', 'knn')
AMP = {'float32': None, 'bf16': torch.bfloat16}  # the autocast dtype
# Clips per batch, clips to load and encode, training clips and queries of probe and k-NN; the GPU's
# as on NTU-60 x-sub.
SIZES = {'cpu': (64, 128, 8192, 2048), 'cuda': (512, 8192, 40_091, 16_487)}
PEAK_SIDE = {'cpu': 2048, 'cuda': 8192}  # of the square matrices whose product is the peak


class Stage(NamedTuple):
    """`work` is timed; it processes `clips` clips."""

    name: str
    clips: int
    work: Callable[[], object]
    dtype: str = 'float32'


def main(argv=None):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        '--stages', nargs='+', choices=STAGES, default=STAGES, metavar='STAGE', help='default: all'
    )
    flag(
        '--dtype',
        nargs='+',
        choices=AMP,
        help="the model's, one or both (default: float32 on a CPU, bf16 on a GPU)",
    )
    flag(
        '--batch-size',
        type=cli.positive_int,
        metavar='N',
        help='clips in a step (default 64, on a GPU 512)',
    )
    flag('--hidden-size', type=cli.even_int, default=1024, metavar='N', help='default 1024')
    add_device_flag(parser)
    flag('--json', type=Path, metavar='FILE', help='write the table to this file as well')
    flag(
        '--gpu-report',
        type=Path,
        metavar='DIR',
        help='write a page about training on this device to DIR instead',
    )
    args = parser.parse_args(argv)
    if args.batch_size == 1:
        parser.error('--batch-size must be at least 2')
    try_outputs(args.json)
    device = select(args.device)
    if args.gpu_report:
        from tools.gpu_report import write_report  # which imports this file

        print(f'written: {write_report(args.gpu_report, device, args.hidden_size)}')
        return
    batch_size = args.batch_size or SIZES[device.type][0]
    setting = {
        'device': name_of(device),
        'torch': torch.__version__,
        'hidden_size': args.hidden_size,
        'batch_size': batch_size,
    }
    print(', '.join(f'{name} {value}' for name, value in setting.items()))
    print(
        f'{"stage":10} {"dtype":8}{"time":>12}{"clips/s":>10}{"GFLOP/s":>10}{"peak":>10}{"of peak":>9}'
    )
    dtypes, rows = args.dtype or ['bf16' if device.type == 'cuda' else 'float32'], []
    with tempfile.TemporaryDirectory() as folder:
        for stage in build_stages(
            set(args.stages), Path(folder), args.hidden_size, batch_size, dtypes, device
        ):
            if stage.name in args.stages:
                rows.append(measure(stage, device))
                print_row(rows[-1])
    if args.json:
        args.json.write_text(json.dumps(setting | {'rows': rows}, indent=1) + '\n')


def build_stages(
    names: set[str],
    folder: Path,
    hidden_size: int,
    batch_size: int,
    dtypes: list[str],
    device: torch.device,
) -> Iterator[Stage]:
    """Yield at least the stages in `names`."""
    _, num_clips, num_train, num_val = SIZES[device.type]
    if 'read' in names:
        write_recordings(folder / 'raw', performers=3, classes=4)
        paths = sorted((folder / 'raw').iterdir())
        yield Stage('read', len(paths), lambda: [normalize(read_xyz(path)) for path in paths])
    dataset = synthetic_dataset(max(num_clips, batch_size))
    if 'load' in names:
        yield load_stage(folder, dataset)
    if names & {'views', 'gradient', 'step', 'features'}:
        dataset = dataset.to(device)
        yield from model_stages(dataset, hidden_size, batch_size, dtypes, device)
    if names & {'probe', 'knn'}:
        yield from evaluation_stages(2 * hidden_size, num_train, num_val, device)


def synthetic_dataset(num_clips: int) -> ClipDataset:
    """Random clips with lengths like NTU's: 20 to 300 frames, 84 on average."""
    lengths = 20 + np.random.default_rng(0).gamma(2, 32.2, num_clips)
    num_frames = torch.from_numpy(lengths.clip(max=MAX_FRAME).astype(np.int64))
    frames = torch.randn(int(num_frames.sum()), BODIES, JOINTS, 3, generator=generator_at(0, 0))
    return ClipDataset(
        frames,
        num_frames,
        torch.zeros_like(num_frames),
        [f'clip {clip}' for clip in range(num_clips)],
    )


def load_stage(folder: Path, dataset: ClipDataset) -> Stage:
    """Load arrays in the published layout; at most 512 clips, which are 90 MB."""
    num_frames = dataset.num_frames[:512].tolist()
    padded = np.zeros((len(num_frames), MAX_FRAME, BODIES, JOINTS, 3), np.float32)
    for clip, frames in zip(
        padded, dataset.frames[: sum(num_frames)].split(num_frames), strict=True
    ):
        clip[: len(frames)] = frames.numpy()
    np.save(file_of(folder, 'train', 'padded'), padded.transpose(0, 4, 1, 3, 2))
    np.save(file_of(folder, 'train', 'counts'), num_frames)
    file_of(folder, 'train', 'labels').write_bytes(
        pickle.dumps((dataset.names[:512], [0] * len(num_frames)))
    )
    return Stage('load', len(num_frames), lambda: load_split(folder, 'train', quiet=True))


def model_stages(
    dataset: ClipDataset, hidden_size: int, batch_size: int, dtypes: list[str], device: torch.device
) -> Iterator[Stage]:
    """A step of pre-training, its parts, and feature extraction."""
    feeder = PretrainFeeder(dataset, batch_size, seed=0)
    model = UmURL(BODIES * JOINTS * 3, VIEW_FRAMES * 3, hidden_size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 5e-4, weight_decay=1e-5, fused=True)
    clips = torch.randperm(len(dataset), generator=generator_at(0, 0))[:batch_size].to(device)
    frames, start = next(feeder.source.batches([clips]))
    num_frames = dataset.num_frames[clips]

    def views():
        return feeder.batch(frames, start, num_frames, generator_at(0, 0, device=device))

    def gradient(batch, dtype):
        with autocast(AMP[dtype], device):
            projections = model(*batch)
        optimizer.zero_grad()
        umurl_objective(projections).total.backward()

    def step(dtype):
        gradient(views(), dtype)
        optimizer.step()

    yield Stage('views', batch_size, views)
    batch = views()
    for dtype in dtypes:
        encode = partial(
            extract_subsets, model.backbone, dataset, [MODALITIES], batch_size, AMP[dtype]
        )
        yield Stage('gradient', batch_size, partial(gradient, batch, dtype), dtype)
        yield Stage('step', batch_size, partial(step, dtype), dtype)
        yield Stage('features', len(dataset), encode, dtype)


def evaluation_stages(
    width: int, num_train: int, num_val: int, device: torch.device
) -> Iterator[Stage]:
    """Linear probe and k-NN on random features (num_train, width) and (num_val, width) of 60
    classes.
    """
    generator = torch.Generator(device).manual_seed(0)
    train, val = (
        torch.nn.functional.normalize(torch.randn(clips, width, device=device, generator=generator))
        for clips in (num_train, num_val)
    )
    labels, order = (
        torch.arange(num_train, device=device) % 60,
        torch.randperm(num_train, device=device).split(512),
    )
    head = linear_head(width, 60, seed=0).to(device)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.03, momentum=0.9)
    yield Stage(
        'probe',
        num_train,
        lambda: train_one_epoch(
            head, optimizer, ((train[batch], labels[batch]) for batch in order)
        ),
    )
    yield Stage('knn', num_val, lambda: knn_search([train], [val], k=1))


def measure(stage: Stage, device: torch.device) -> dict:
    """One row of the table. Counting the FLOPs is also the warm-up."""
    flops, side = count_flops(stage.work), PEAK_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(AMP[stage.dtype]) for _ in range(2))
    peak = 2 * side**3 / seconds_of(lambda: torch.mm(a, b)) if flops else None
    seconds = seconds_of(stage.work)
    return {
        'stage': stage.name,
        'dtype': stage.dtype,
        'seconds': seconds,
        'clips_per_second': stage.clips / seconds,
        'flops': flops,
        'flops_per_second': flops / seconds,
        'matmul_flops_per_second': peak,
        'of_peak': flops / seconds / peak if peak else None,
    }


def seconds_of(work: Callable, min_seconds: float = 0.5) -> float:
    """Median time of a call. Timer waits for the GPU; by default it would use one thread."""
    timer = Timer('work()', globals={'work': work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=min_seconds).median


def print_row(row: dict) -> None:
    rates = (
        f'{row["flops_per_second"] / 1e9:10.1f}{row["matmul_flops_per_second"] / 1e9:10.1f}{row["of_peak"]:9.1%}'
        if row['flops']
        else ''
    )
    print(
        f'{row["stage"]:10} {row["dtype"]:8}{row["seconds"] * 1e3:9.2f} '
        f'ms{row["clips_per_second"]:10.0f}{rates}',
        flush=True,
    )


if __name__ == '__main__':
    cli.run(main)
