"""Time each stage of the project on this machine, with synthetic data.

    python -m tools.benchmark [--stages views step …] [--dtype float32 bf16] [--json FILE]

read       raw recordings: parse the text, normalise the skeletons
load       prepared arrays to memory
views      one batch's four augmented views, as streams
gradient   of the loss of one batch: the model and the objective, forward and backward
step       one whole step of pre-training: views, gradient, Adam
features   of a frozen encoder, all three modalities fused
probe      one epoch of the linear probe
knn        retrieval of one neighbour

The peaks come first: a large torch.mm in each dtype, and a copy, whose bytes are read and written.
GFLOP/s counts matrix products only. "of peak" compares it with torch.mm in the same dtype.
"""

import tools.common.start  # noqa: F401

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

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
from tools.evaluation.flops import count_flops, seconds_of
from tools.evaluation.knn import knn_search
from tools.evaluation.probe import linear_head, train_one_epoch
from tools.options import add_device_flag, try_outputs

STAGES = ('read', 'load', 'views', 'gradient', 'step', 'features', 'probe', 'knn')
AMP = {'float32': None, 'bf16': torch.bfloat16}  # the autocast dtype


class Size(NamedTuple):
    """How much the stages process on a kind of device."""

    batch: int  # clips in a step
    clips: int  # to load and to encode
    train: int  # clips of the probe and of k-NN
    queries: int  # clips of k-NN
    side: int  # of the square matrices whose product is the peak
    copied: int  # bytes, likewise


SIZES = {
    'cpu': Size(batch=64, clips=128, train=8192, queries=2048, side=2048, copied=1 << 28),
    # the clips of NTU-60 x-sub
    'cuda': Size(batch=512, clips=8192, train=40_091, queries=16_487, side=8192, copied=1 << 30),
}


class Stage(NamedTuple):
    """`work` is timed; it processes `clips` clips."""

    name: str
    clips: int
    work: Callable[[], object]
    dtype: str = 'float32'


def main(argv=None):
    args = parse_args(argv)
    device = select(args.device)
    size = SIZES[device.type]
    if args.batch_size:
        size = size._replace(batch=args.batch_size)
    dtypes = args.dtype or ['bf16' if device.type == 'cuda' else 'float32']
    report = {
        'device': name_of(device),
        'torch': torch.__version__,
        'hidden_size': args.hidden_size,
        'batch_size': size.batch,
    }
    print(', '.join(f'{name} {value}' for name, value in report.items()))
    report |= {'peaks': measure_peaks(size, dtypes, device), 'rows': []}
    print(describe_peaks(report['peaks']))
    print(f'{"stage":10} {"dtype":8}{"time":>12}{"clips/s":>10}{"GFLOP/s":>10}{"of peak":>9}')
    with tempfile.TemporaryDirectory() as folder:
        stages = build_stages(
            set(args.stages), Path(folder), args.hidden_size, size, dtypes, device
        )
        for stage in stages:
            if stage.name in args.stages:
                row = measure(stage, report['peaks'])
                print_row(row)
                report['rows'].append(row)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + '\n')


def parse_args(argv):
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
    args = parser.parse_args(argv)
    if args.batch_size == 1:
        parser.error('--batch-size must be at least 2')
    try_outputs(args.json)
    return args


def measure_peaks(size: Size, dtypes: list[str], device: torch.device) -> dict[str, float]:
    """What the device sustains: FLOP/s of a large torch.mm in float32 and in each of `dtypes`, and
    bytes/s of a copy.
    """
    peaks = {}
    for name in dict.fromkeys(['float32', *dtypes]):
        a = torch.randn(size.side, size.side, device=device).to(AMP[name])
        seconds = seconds_of(partial(torch.mm, a, a))
        peaks[name] = 2 * size.side**3 / seconds
    source = torch.ones(size.copied, dtype=torch.uint8, device=device)
    seconds = seconds_of(partial(torch.empty_like(source).copy_, source))
    return peaks | {'copy': 2 * size.copied / seconds}


def describe_peaks(peaks: dict[str, float]) -> str:
    """The peaks as one line of text."""
    products = [f'{name} {peaks[name] / 1e9:.1f} GFLOP/s' for name in peaks if name != 'copy']
    return f'peaks: torch.mm {", ".join(products)}; copy {peaks["copy"] / 1e9:.1f} GB/s'


def build_stages(
    names: set[str],
    folder: Path,
    hidden_size: int,
    size: Size,
    dtypes: list[str],
    device: torch.device,
) -> Iterator[Stage]:
    """Yield at least the stages in `names`."""
    if 'read' in names:
        write_recordings(folder / 'raw', performers=3, classes=4)
        paths = sorted((folder / 'raw').iterdir())
        yield Stage('read', len(paths), lambda: [normalize(read_xyz(path)) for path in paths])
    dataset = synthetic_dataset(max(size.clips, size.batch))
    if 'load' in names:
        yield load_stage(folder, dataset)
    if names & {'views', 'gradient', 'step', 'features'}:
        dataset = dataset.to(device)
        yield from model_stages(dataset, hidden_size, size.batch, dtypes, device)
    if names & {'probe', 'knn'}:
        yield from evaluation_stages(2 * hidden_size, size, device)


def synthetic_dataset(num_clips: int) -> ClipDataset:
    """Random clips with lengths like NTU's: 20 to 300 frames, 84 on average."""
    lengths = 20 + np.random.default_rng(0).gamma(2, 32.2, num_clips)
    num_frames = torch.from_numpy(lengths.clip(max=MAX_FRAME).astype(np.int64))
    frames = torch.randn(int(num_frames.sum()), BODIES, JOINTS, 3, generator=generator_at('frames'))
    labels = torch.zeros_like(num_frames)
    names = [f'clip {clip}' for clip in range(num_clips)]
    return ClipDataset(frames, num_frames, labels, names)


def load_stage(folder: Path, dataset: ClipDataset) -> Stage:
    """Load arrays in the published layout; at most 512 clips, which are 90 MB."""
    num_frames = dataset.num_frames[:512].tolist()
    clips = dataset.frames[: sum(num_frames)].split(num_frames)
    padded = np.zeros((len(clips), MAX_FRAME, BODIES, JOINTS, 3), np.float32)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip.numpy()
    np.save(file_of(folder, 'train', 'padded'), padded.transpose(0, 4, 1, 3, 2))
    np.save(file_of(folder, 'train', 'counts'), num_frames)
    labels = pickle.dumps((dataset.names[:512], [0] * len(clips)))
    file_of(folder, 'train', 'labels').write_bytes(labels)
    return Stage('load', len(num_frames), lambda: load_split(folder, 'train', quiet=True))


def model_stages(
    dataset: ClipDataset, hidden_size: int, batch_size: int, dtypes: list[str], device: torch.device
) -> Iterator[Stage]:
    """A step of pre-training, its parts, and feature extraction."""
    feeder = PretrainFeeder(dataset, batch_size, seed=0)
    sizes = BODIES * JOINTS * 3, VIEW_FRAMES * 3, hidden_size
    model = UmURL(*sizes, modalities=MODALITIES).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 5e-4, weight_decay=1e-5, fused=True)
    clips = torch.randperm(len(dataset), generator=generator_at('order'))[:batch_size]
    (loaded,) = feeder.source.batches([clips])
    num_frames = dataset.num_frames[clips.to(device)]
    generator_of = partial(generator_at, device=device)

    def views():
        return feeder.batch(loaded, num_frames, generator_of)

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
            extract_subsets,
            model.backbone,
            dataset,
            [model.backbone.modalities],
            batch_size,
            AMP[dtype],
        )
        yield Stage('gradient', batch_size, partial(gradient, batch, dtype), dtype)
        yield Stage('step', batch_size, partial(step, dtype), dtype)
        yield Stage('features', len(dataset), encode, dtype)


def evaluation_stages(width: int, size: Size, device: torch.device) -> Iterator[Stage]:
    """Linear probe and k-NN on random features (size.train, width) and (size.queries, width) of 60
    classes.
    """
    generator = torch.Generator(device).manual_seed(0)
    features = torch.randn(size.train + size.queries, width, device=device, generator=generator)
    train, queries = torch.nn.functional.normalize(features).split([size.train, size.queries])
    labels = torch.arange(size.train, device=device) % 60
    order = torch.randperm(size.train, device=device).split(512)
    head = linear_head(width, 60, generator_at('head')).to(device)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.03, momentum=0.9)

    def probe():
        train_one_epoch(head, optimizer, ((train[batch], labels[batch]) for batch in order))

    yield Stage('probe', size.train, probe)
    yield Stage('knn', size.queries, lambda: knn_search([train], [queries], k=1))


def measure(stage: Stage, peaks: dict[str, float]) -> dict:
    """One row of the table. Counting the FLOPs is also the warm-up."""
    flops = count_flops(stage.work)
    seconds = seconds_of(stage.work)
    return {
        'stage': stage.name,
        'dtype': stage.dtype,
        'seconds': seconds,
        'clips_per_second': stage.clips / seconds,
        'flops': flops,
        'flops_per_second': flops / seconds,
        'of_peak': flops / seconds / peaks[stage.dtype],
    }


def print_row(row: dict) -> None:
    line = f'{row["stage"]:10} {row["dtype"]:8}{row["seconds"] * 1e3:9.2f} ms'
    line += f'{row["clips_per_second"]:10.0f}'
    if row['flops']:
        line += f'{row["flops_per_second"] / 1e9:10.1f}{row["of_peak"]:9.1%}'
    print(line, flush=True)


if __name__ == '__main__':
    cli.run(main)
