"""What an encoder costs: parameters, FLOPs per clip, and latency on this machine.

    python -m tools.evaluation.flops [--hidden-size 1024 | --checkpoint FILE] [--device cpu]

FLOPs are 2 per multiply-add of the matrix products; for pre-training, of the model without the
objective. They are for clips with two bodies, as in the published model. The column "one body" is
the share saved for a clip with one: its absent body is a single token. "Fused" is one pass of
several modalities, "uni-modal passes" are one pass of each, as in late fusion. Times are the
encoder's, from streams to features: the median for one clip and for a batch.
"""

import tools.common.start  # noqa: F401

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from data_gen.skeleton import BODIES, JOINTS
from feeder.feeders import VIEW_FRAMES
from model.umurl import Backbone, UmURL
from tools import checkpoint
from tools.common import cli
from tools.device import name_of, select
from tools.evaluation.late_fusion import Subset
from tools.options import add_device_flag


def main(argv=None):
    args = parse_args(argv)
    device = select(args.device)
    batch_size = args.batch_size or (512 if device.type == 'cuda' else 16)
    if args.checkpoint:
        model, _ = checkpoint.load_model(args.checkpoint)
    else:
        model = UmURL(BODIES * JOINTS * 3, VIEW_FRAMES * 3, args.hidden_size)
    times = time_paths(model.backbone.eval().to(device), batch_size, device)
    print(f'hidden size {model.backbone.hidden_size}, {name_of(device)}, float32\n')
    for name, count in parameters(model).items():
        print(f'{"parameters, " + name:28}{count / 1e6:12.2f} M')
    print(
        f'\n{"":28}{"GFLOPs/clip":>12}{"one body":>12}{"1 clip":>12}{batch_size:>6} clips{"clips/s":>10}'
    )
    one_body = flops_per_clip(model, 1)
    for path, count in flops_per_clip(model).items():
        saved = 1 - one_body[path] / count
        line = f'{path:28}{count / 1e9:12.3f}{100 * saved:10.1f} %'
        if path in times:
            clip, batch = times[path]
            line += f'{clip * 1e3:9.2f} ms{batch * 1e3:9.1f} ms{batch_size / batch:10.1f}'
        print(line)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--hidden-size', type=cli.even_int, default=1024, help='encoder width (default 1024)'
    )
    which.add_argument(
        '--checkpoint', type=Path, metavar='FILE', help='measure the model in this checkpoint'
    )
    parser.add_argument(
        '-b', '--batch-size', type=cli.positive_int, metavar='N', help='default 16, on a GPU 512'
    )
    add_device_flag(parser)
    return parser.parse_args(argv)


def paths(names: Subset) -> dict[str, list[Subset]]:
    """The passes of an encoder of these modalities: fused, and one of each modality."""
    found = {'1 modality': [names[:1]]}
    for number in range(2, len(names) + 1):
        found[f'{number} modalities, fused'] = [names[:number]]
    for number in range(2, len(names) + 1):
        found[f'{number} uni-modal passes'] = [(name,) for name in names[:number]]
    return found


def parameters(model: UmURL) -> dict[str, int]:
    """How many parameters the encoder has, which downstream tasks use, and how many the whole
    model.
    """
    modules = {'backbone': model.backbone, 'with projectors': model}
    return {
        name: sum(tensor.numel() for tensor in module.parameters())
        for name, module in modules.items()
    }


def flops_per_clip(model: UmURL, bodies: int = BODIES) -> dict[str, float]:
    """FLOPs per clip of so many bodies, for each path and for pre-training. Moves the model to the
    meta device, so only shapes count.
    """
    model = model.to('meta').train()
    streams = random_streams(
        model.backbone, 2, 'meta', bodies
    )  # BatchNorm trains on two clips or more
    counts = {
        path: count_flops(partial(encode, model.backbone, streams, passes))
        for path, passes in paths(model.backbone.modalities).items()
    }
    counts['pre-training, forward'] = count_flops(lambda: model(streams, streams))
    counts['pre-training, with backward'] = count_flops(
        lambda: sum(map(torch.sum, model(streams, streams))).backward()
    )
    return {path: count / 2 for path, count in counts.items()}


@torch.inference_mode()
def time_paths(
    backbone: Backbone, batch_size: int, device: torch.device
) -> dict[str, tuple[float, float]]:
    """Median seconds of each path: {path: (for one clip, for a batch)}."""
    one, many = (random_streams(backbone, clips, device) for clips in (1, batch_size))
    times = {}
    found = paths(backbone.modalities).items()
    for path, passes in cli.progress(found, 'timing', unit='path', leave=False):
        clip = seconds_of(partial(encode, backbone, one, passes), 2)
        batch = seconds_of(partial(encode, backbone, many, passes), 2)
        times[path] = clip, batch
    return times


def seconds_of(work: Callable, min_seconds: float = 0.5) -> float:
    """Median time of a call. Timer waits for the GPU; by default it would use one thread."""
    timer = Timer('work()', globals={'work': work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=min_seconds).median


def count_flops(work: Callable) -> int:
    """FLOPs of the matrix products in one call. Not every fused attention kernel is counted, so
    none is used.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def random_streams(
    backbone: Backbone, clips: int, device: torch.device | str, bodies: int = BODIES
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random streams in the shapes that the backbone takes: {modality: (temporal, spatial)}."""
    frame = backbone.t_input_size * bodies // BODIES
    trajectory = backbone.s_input_size
    temporal = (clips, trajectory // 3, frame)  # three coordinates per joint
    spatial = (clips, frame // 3, trajectory)
    return {
        modality: tuple(torch.randn(shape, device=device) for shape in (temporal, spatial))
        for modality in backbone.modalities
    }


def encode(backbone: Backbone, streams: dict, passes: list[Subset]) -> list[torch.Tensor]:
    return [
        backbone.encode({modality: streams[modality] for modality in modalities})
        for modalities in passes
    ]


@torch.no_grad()
def gflops_per_clip(backbone: Backbone, subsets: list[Subset]) -> dict[str, float]:
    """GFLOPs per clip of the pass of each subset, counted while it encodes one. In inference mode
    the counter of torch before 2.6 sees no linear layer.
    """
    streams = random_streams(backbone, 1, next(backbone.parameters()).device)
    flops = {
        subset: count_flops(partial(encode, backbone, streams, [subset])) for subset in subsets
    }
    return {'+'.join(subset): count / 1e9 for subset, count in flops.items()}


if __name__ == '__main__':
    cli.run(main)
