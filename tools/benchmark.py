"""Time each stage of the project on this machine, with synthetic data.

    python -m tools.benchmark [--stages forward backward …] [--dtype float32 bf16] [--json FILE]

read, normalise     raw recordings: parse the text, normalise the skeletons
load                prepared arrays to memory
views               one batch's four augmented views, as streams
forward, backward   of the model; objective: its value and gradient; optimizer: Adam
step                one whole step of pre-training: views, forward, objective, backward, optimizer
features            of a frozen encoder, all three modalities fused
probe               one epoch of the linear probe
knn                 retrieval of one neighbour

GFLOP/s counts matrix products only. "of peak" compares it with one large torch.mm in the same dtype, timed just before
the stage. On a shared machine times vary a lot, and this ratio less.
"""
import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from data_gen import cli
from data_gen.arrays import count_file, data_file, label_file
from data_gen.demo_recordings import write_recordings
from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.skeleton import BODIES, JOINTS, read_xyz
from feeder.dataset import ClipDataset, load_split
from feeder.feeders import VIEW_FRAMES, PretrainFeeder, generator_at
from feeder.modalities import MODALITIES
from model.objective import umurl_objective
from model.umurl import Projections, UmURL
from tools.device import autocast, name_of, select
from tools.evaluation.feature_files import Features
from tools.evaluation.features import extract
from tools.evaluation.knn import knn_search
from tools.evaluation.probe import linear_head, train_one_epoch
from tools.options import add_device_flag, make_parents

STEP = ('views', 'forward', 'objective', 'backward', 'optimizer', 'step')
STAGES = ('read', 'normalise', 'load', *STEP, 'features', 'probe', 'knn')
AMP = {'float32': None, 'bf16': torch.bfloat16}  # the autocast dtype
PEAK_SIDE = {'cpu': 2048, 'cuda': 8192}  # of the square matrices whose product is the peak
MIN_SECONDS = 0.5  # how long a stage is timed, at least
NUM_CLASSES = 60


class Sizes(NamedTuple):
    batch_size: int
    clips: int  # to load, to draw batches from and to encode
    num_train: int  # features of the probe, and of k-NN
    num_val: int  # queries of k-NN


SIZES = {'cpu': Sizes(64, 128, 8192, 2048), 'cuda': Sizes(512, 8192, 40_091, 16_487)}  # the GPU's as in NTU-60 x-sub


class Stage(NamedTuple):
    """`work` is timed; it processes `clips` clips. count_flops: how to count its FLOPs, if not by calling it once."""
    name: str
    clips: int
    work: Callable[[], object]
    dtype: str = 'float32'
    count_flops: Callable[[], int] | None = None


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=STAGES, metavar='STAGE', help='default: all')
    parser.add_argument('--dtype', nargs='+', choices=AMP,
                        help='precision of the model, one or both (default: float32 on a CPU, bf16 on a GPU)')
    parser.add_argument('--batch-size', type=cli.positive_int, metavar='N',
                        help='clips in a step (default: 64 on a CPU, 512 on a GPU)')
    parser.add_argument('--hidden-size', type=cli.even_int, default=1024, metavar='N', help='default 1024')
    add_device_flag(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the table to this file as well')
    args = parser.parse_args(argv)
    if args.batch_size == 1:
        parser.error('--batch-size must be at least 2')
    make_parents(args.json)
    device = select(args.device)
    sizes = SIZES[device.type]
    sizes = sizes._replace(batch_size=args.batch_size or sizes.batch_size)
    setting = {'device': name_of(device), 'torch': torch.__version__, 'hidden_size': args.hidden_size,
               'batch_size': sizes.batch_size}
    print(', '.join(f'{name} {value}' for name, value in setting.items()))
    print(f'{"stage":10} {"dtype":8}{"time":>12}{"clips/s":>10}{"GFLOP/s":>10}{"peak":>10}{"of peak":>9}')
    rows = {}
    dtypes = args.dtype or ['bf16' if device.type == 'cuda' else 'float32']
    with tempfile.TemporaryDirectory() as folder:
        for stage in build_stages(set(args.stages), Path(folder), args.hidden_size, sizes, dtypes, device):
            if stage.name in args.stages and (stage.name, stage.dtype) not in rows:
                row = rows[stage.name, stage.dtype] = measure(stage, device)
                print(line(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps(setting | {'rows': list(rows.values())}, indent=1) + '\n')


def build_stages(names: set[str], folder: Path, hidden_size: int, sizes: Sizes, dtypes: list[str],
                 device: torch.device) -> Iterator[Stage]:
    """Yield at least the stages in `names`. Each must be timed before the next one is taken."""
    if names & {'read', 'normalise'}:
        yield from raw_stages(folder / 'raw')
    dataset = synthetic_dataset(max(sizes.clips, sizes.batch_size))
    if 'load' in names:
        yield load_stage(folder, dataset)
    dataset = dataset.to(device)
    for dtype in dtypes:
        if names & set(STEP):
            yield from training_stages(dataset, hidden_size, sizes.batch_size, dtype, device)
        if 'features' in names:
            yield feature_stage(dataset, hidden_size, sizes.batch_size, dtype, device)
    if names & {'probe', 'knn'}:
        yield from evaluation_stages(2 * hidden_size, sizes.num_train, sizes.num_val, device)


def raw_stages(folder: Path) -> Iterator[Stage]:
    """Read and normalise demo recordings."""
    write_recordings(folder, performers=3, classes=4)
    paths = sorted(folder.iterdir())
    recordings = [read_xyz(path) for path in paths]
    yield Stage('read', len(paths), lambda: [read_xyz(path) for path in paths])
    yield Stage('normalise', len(paths), lambda: [normalize(xyz) for xyz in recordings])


def synthetic_dataset(num_clips: int) -> ClipDataset:
    """Random clips with lengths like NTU's: 20 to 300 frames, 84 on average."""
    lengths = 20 + np.random.default_rng(0).gamma(2, 32.2, num_clips)
    num_frames = torch.from_numpy(lengths.clip(max=MAX_FRAME).astype(np.int64))
    frames = torch.randn(int(num_frames.sum()), BODIES, JOINTS, 3, generator=generator_at(0, 0))
    return ClipDataset(frames, num_frames, torch.zeros_like(num_frames), [f'clip {clip}' for clip in range(num_clips)])


def load_stage(folder: Path, dataset: ClipDataset) -> Stage:
    """Load arrays in the published layout; at most 512 clips, which are 90 MB."""
    num_frames = dataset.num_frames[:512].tolist()
    padded = np.zeros((len(num_frames), MAX_FRAME, BODIES, JOINTS, 3), np.float32)
    for clip, frames in zip(padded, dataset.frames[:sum(num_frames)].split(num_frames), strict=True):
        clip[:len(frames)] = frames
    np.save(data_file(folder, 'train', 'padded'), padded.transpose(0, 4, 1, 3, 2))
    np.save(count_file(folder, 'train'), num_frames)
    label_file(folder, 'train').write_bytes(pickle.dumps((dataset.names[:512], [0] * len(num_frames))))
    return Stage('load', len(num_frames), lambda: load_split(folder, 'train', quiet=True))


def training_stages(dataset: ClipDataset, hidden_size: int, batch_size: int, dtype: str,
                    device: torch.device) -> Iterator[Stage]:
    """A step of pre-training and its parts. Views, objective and optimizer are in float32 whatever the dtype."""
    feeder, model = PretrainFeeder(dataset, batch_size, seed=0), new_model(hidden_size, device)
    optimizer = torch.optim.Adam(model.parameters(), 5e-4, weight_decay=1e-5, fused=True)
    clips = torch.randperm(len(dataset), generator=generator_at(0, 0))[:batch_size]

    def views():
        return feeder.batch(clips, generator_at(0, 0))

    def forward(batch):
        with autocast(AMP[dtype], device):
            return model(*batch)

    def objective_gradient(projections):
        leaves = Projections(*(z.detach().requires_grad_() for z in projections))
        return torch.autograd.grad(umurl_objective(leaves).total, leaves)

    def backward(projections, gradients):
        optimizer.zero_grad()
        torch.autograd.backward(projections, gradients, retain_graph=True)  # it is timed more than once

    def step():
        total = umurl_objective(forward(views())).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    batch = views()
    yield Stage('views', batch_size, views)
    yield Stage('forward', batch_size, lambda: forward(batch), dtype)
    projections = forward(batch)
    gradients = objective_gradient(projections)
    yield Stage('objective', batch_size, lambda: objective_gradient(projections))
    yield Stage('backward', batch_size, lambda: backward(projections, gradients), dtype,
                lambda: flops_of(lambda: backward(forward(batch), gradients)) - flops_of(lambda: forward(batch)))
    projections = gradients = None  # frees the graph
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    yield Stage('optimizer', batch_size, optimizer.step)
    yield Stage('step', batch_size, step, dtype)


def feature_stage(dataset: ClipDataset, hidden_size: int, batch_size: int, dtype: str, device: torch.device) -> Stage:
    backbone, amp = new_model(hidden_size, device).backbone.eval(), AMP[dtype]
    return Stage('features', len(dataset), lambda: extract(backbone, dataset, MODALITIES, batch_size, amp), dtype)


def evaluation_stages(width: int, num_train: int, num_val: int, device: torch.device) -> Iterator[Stage]:
    """Linear probe and k-NN on random features (num_train, width) and (num_val, width)."""
    generator = torch.Generator(device).manual_seed(0)
    train, val = (torch.nn.functional.normalize(torch.randn(clips, width, device=device, generator=generator))
                  for clips in (num_train, num_val))
    labels, val_labels = (torch.arange(clips, device=device) % NUM_CLASSES for clips in (num_train, num_val))
    features, order = Features(train, labels, val, val_labels), torch.randperm(num_train, device=device)
    head = linear_head(width, NUM_CLASSES, seed=0).to(device)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.03, momentum=0.9)
    yield Stage('probe', num_train, lambda: train_one_epoch(head, optimizer, features, order, batch_size=512))
    yield Stage('knn', num_val, lambda: knn_search([train], [val], k=1))


def new_model(hidden_size: int, device: torch.device) -> UmURL:
    return UmURL(BODIES * JOINTS * 3, VIEW_FRAMES * 3, hidden_size).to(device)


def measure(stage: Stage, device: torch.device) -> dict:
    """One row of the table. Counting the FLOPs is also the warm-up."""
    flops = stage.count_flops() if stage.count_flops else flops_of(stage.work)
    peak = matmul_peak(stage.dtype, device) if flops else None
    seconds = seconds_of(stage.work)
    return {'stage': stage.name, 'dtype': stage.dtype, 'seconds': seconds, 'clips_per_second': stage.clips / seconds,
            'flops': flops, 'flops_per_second': flops / seconds, 'matmul_flops_per_second': peak,
            'of_peak': flops / seconds / peak if peak else None}


def flops_of(work: Callable) -> int:
    """FLOPs of the matrix products in one call. Not every fused attention kernel is counted, so none is used."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def matmul_peak(dtype: str, device: torch.device) -> float:
    """FLOP/s of a large square torch.mm."""
    side = PEAK_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(AMP[dtype]) for _ in range(2))
    return 2 * side ** 3 / seconds_of(lambda: torch.mm(a, b))


def seconds_of(work: Callable) -> float:
    """Median time of a call. Timer waits for the GPU; by default it would use one thread."""
    timer = Timer('work()', globals={'work': work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=MIN_SECONDS).median


def line(row: dict) -> str:
    text = f'{row["stage"]:10} {row["dtype"]:8}{row["seconds"] * 1e3:9.2f} ms{row["clips_per_second"]:10.0f}'
    if not row['flops']:
        return text
    rates = (row[name] / 1e9 for name in ('flops_per_second', 'matmul_flops_per_second'))
    return text + ''.join(f'{rate:10.1f}' for rate in rates) + f'{row["of_peak"]:9.1%}'


if __name__ == '__main__':
    cli.run(main)
