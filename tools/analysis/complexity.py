"""What UmURL costs: parameters, FLOPs per clip, and latency on this machine.

    python -m tools.analysis.complexity [--hidden-size 1024 | --checkpoint FILE] [--device cpu] [--json FILE]

A path is one pass of one modality, one pass of two or three fused ones, or one pass per modality
(late fusion, "3s"). FLOPs are 2 per multiply-add of the matrix products; for pre-training, of the
model without the objective. Times are the encoder's, from streams to features: the median for one
clip and for a batch.
"""

import json
from functools import partial
from pathlib import Path

import torch

from data_gen.skeleton import BODIES, JOINTS
from feeder.feeders import VIEW_FRAMES
from feeder.modalities import MODALITIES
from model.umurl import Backbone, UmURL
from tools import checkpoint
from tools.benchmark import seconds_of
from tools.common import cli
from tools.device import amp_dtype, autocast, name_of, select
from tools.evaluation.flops import count_flops, encode, random_streams
from tools.options import add_device_flag, try_outputs

PATHS = {  # the passes of the encoder, each with its modalities
    'one modality': [('joint',)],
    'two modalities, fused': [('joint', 'bone')],
    'three modalities, fused': [MODALITIES],
    'two uni-modal passes': [('joint',), ('bone',)],
    'three uni-modal passes': [('joint',), ('bone',), ('motion',)],
}


def main(argv=None):
    parser = cli.Parser(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--hidden-size', type=cli.even_int, default=1024, help='encoder width (default 1024)'
    )
    which.add_argument(
        '--checkpoint',
        type=Path,
        metavar='FILE',
        help='measure the model in this checkpoint instead',
    )
    parser.add_argument(
        '-b', '--batch-size', type=cli.positive_int, metavar='N', help='default 16, on a GPU 512'
    )
    add_device_flag(parser)
    parser.add_argument(
        '--amp',
        choices=('auto', 'bf16', 'fp16', 'off'),
        default='off',
        help='precision (default off)',
    )
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='also write the numbers to this file'
    )
    args = parser.parse_args(argv)
    try_outputs(args.json)
    device = select(args.device)
    batch_size = args.batch_size or (512 if device.type == 'cuda' else 16)
    model = (
        checkpoint.load_model(args.checkpoint)[0]
        if args.checkpoint
        else UmURL(BODIES * JOINTS * 3, VIEW_FRAMES * 3, args.hidden_size)
    )
    with autocast(amp_dtype(args.amp, device), device):
        times = time_paths(model.backbone.eval().to(device), batch_size, device)
    params, flops = parameters(model), flops_per_clip(model)
    print(f'hidden size {model.backbone.hidden_size}, {name_of(device)}, --amp {args.amp}\n')
    for name, count in params.items():
        print(f'{"parameters, " + name:28}{count / 1e6:12.2f} M')
    print(f'\n{"":28}{"GFLOPs/clip":>12}{"1 clip":>12}{batch_size:>6} clips{"clips/s":>10}')
    for path, count in flops.items():
        line = f'{path:28}{count / 1e9:12.3f}'
        if path in times:
            clip, batch, rate = times[path].values()
            line += f'{clip * 1e3:9.2f} ms{batch * 1e3:9.1f} ms{rate:10.1f}'
        print(line)
    if args.json:
        costs = {
            'hidden_size': model.backbone.hidden_size,
            'checkpoint': str(args.checkpoint or ''),
            'amp': args.amp,
            'parameters': params,
            'flops': flops,
            'times': times,
            'batch_size': batch_size,
            'machine': name_of(device),
            'torch': torch.__version__,
        }
        args.json.write_text(json.dumps(costs, indent=1) + '\n')


def parameters(model: UmURL) -> dict[str, int]:
    """How many parameters the encoder has, which downstream tasks use, and how many the whole
    model.
    """
    return {
        name: sum(tensor.numel() for tensor in module.parameters())
        for name, module in (('backbone', model.backbone), ('with projectors', model))
    }


def flops_per_clip(model: UmURL) -> dict[str, float]:
    """FLOPs per clip of each path and of pre-training. Moves the model to the meta device, so only
    shapes count.
    """
    streams = random_streams(
        model.to('meta').train().backbone, 2, 'meta'
    )  # BatchNorm trains on two clips or more
    counts = {
        path: count_flops(partial(encode, model.backbone, streams, passes))
        for path, passes in PATHS.items()
    }
    counts['pre-training, forward'] = count_flops(lambda: model(streams, streams))
    counts['pre-training, with backward'] = count_flops(
        lambda: sum(map(torch.sum, model(streams, streams))).backward()
    )
    return {path: count / 2 for path, count in counts.items()}


@torch.inference_mode()
def time_paths(
    backbone: Backbone, batch_size: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Median times: {path: {'clip': seconds for one clip, 'batch': seconds for a batch,
    'clips_per_second'}}.
    """
    times = {}
    for path, passes in cli.progress(PATHS.items(), 'timing', unit='path', leave=False):
        clip, batch = (
            seconds_of(
                partial(encode, backbone, random_streams(backbone, clips, device), passes), 2
            )
            for clips in (1, batch_size)
        )
        times[path] = {'clip': clip, 'batch': batch, 'clips_per_second': batch_size / batch}
    return times


if __name__ == '__main__':
    cli.run(main)
