"""What UmURL costs: parameters, FLOPs a clip by path, and latency on this machine.

    python -m tools.complexity [--hidden-size 1024 | --checkpoint FILE] [--device cpu] [--json FILE]

A path is one uni-modal pass, two or three modalities fused in one pass, or a uni-modal pass for each of them (late
fusion, "3s"); joint, bone and motion cost the same. FLOPs are 2 x MAC of the matrix products, as torch's counter has
them; those of pre-training are the model's, without the objective, and with backward a little less than three times
the forward ones, because the streams need no gradient. Times are the encoder's, from streams to features: the median
of one clip, and of a batch.
"""
import json
import statistics
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data_gen import cli
from data_gen.arrays import replacing
from data_gen.skeleton import BODIES, JOINTS
from feeder.feeders import SIZE
from feeder.modalities import MODALITIES
from model.umurl import UmURL
from tools import checkpoint, options
from tools.device import amp_dtype, autocast, name_of, select

JOINT, BONE, MOTION = ((modality,) for modality in MODALITIES)
PATHS = {  # the passes of the encoder, each with its modalities
    'one modality': (JOINT,),
    'two modalities, fused': (JOINT + BONE,),
    'three modalities, fused': (MODALITIES,),
    'two uni-modal passes': (JOINT, BONE),
    'three uni-modal passes': (JOINT, BONE, MOTION)}
BATCH = {'cpu': 16, 'cuda': 512}
WARM_UP, LEAST, SECONDS = 2, 5, 2  # untimed runs; then so many at least, for so long in all


def main(argv=None):
    args = parse(argv)
    device = select(args.device)
    model = checkpoint.load_model(args.checkpoint) if args.checkpoint else new_model(args.hidden_size)
    batch = args.batch_size or BATCH[device.type]
    times = timed_paths(model.backbone.eval().to(device), batch, amp_dtype(args.amp, device))
    costs = {'hidden_size': model.backbone.ma_encoder.pe.pe.shape[2], 'checkpoint': str(args.checkpoint or ''),
             'parameters': parameters(model), 'flops': flops(model.to('meta')), 'times': times, 'batch_size': batch,
             'machine': name_of(device), 'amp': args.amp, 'torch': torch.__version__}
    report(costs)
    if args.json:
        with replacing(args.json) as file:
            file.write(json.dumps(costs, indent=1).encode() + b'\n')


def parse(argv):
    parser = cli.Parser(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--hidden-size', type=cli.even, default=1024, help='encoder width (default 1024)')
    which.add_argument('--checkpoint', type=Path, metavar='FILE', help='the model of a checkpoint instead')
    parser.add_argument('-b', '--batch-size', type=cli.positive, metavar='N',
                        help='clips of a batch (default {cpu} on a CPU, {cuda} on a GPU)'.format(**BATCH))
    options.add_device_flag(parser)
    parser.add_argument('--amp', choices=('auto', 'bf16', 'fp16', 'off'), default='off',
                        help='mixed precision of what is timed (default off)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    args = parser.parse_args(argv)
    if args.json:  # a result must not be lost to a folder that is not there yet
        args.json.parent.mkdir(parents=True, exist_ok=True)
    return args


def new_model(hidden_size):
    return UmURL(BODIES * JOINTS * 3, SIZE * 3, hidden_size)


def parameters(model):
    """How many numbers are trained: the encoder's, which downstream tasks keep, and the whole model's."""
    return {part: sum(tensor.numel() for tensor in module.parameters())
            for part, module in (('backbone', model.backbone), ('with projectors', model))}


def flops(model):
    """FLOPs a clip of each path, and of a step of pre-training; the model lies on any device, best on meta."""
    streams = made_streams(model.backbone, clips=2)  # BatchNorm trains on two or more
    counts = {path: counted(encode, model.backbone, streams, passes) for path, passes in PATHS.items()}
    model.train()
    counts['pre-training, forward'] = counted(model, streams, streams)
    counts['pre-training, with backward'] = counted(lambda: sum(map(torch.sum, model(streams, streams))).backward())
    return {part: count / 2 for part, count in counts.items()}


def counted(work, *arguments):
    """FLOPs of a call. Attention is done as plain matrix products, which every version of torch knows to count."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work(*arguments)
    return counter.get_total_flops()


def made_streams(backbone, clips):
    """Random streams of so many clips, of the shapes that the backbone takes, on its device."""
    embedding, device = backbone.j_emb, backbone.ma_encoder.pe.pe.device
    frame, trajectory = embedding.t_embedding[0].in_features, embedding.s_embedding[0].in_features
    shapes = (clips, trajectory // 3, frame), (clips, frame // 3, trajectory)  # three coordinates a joint
    return {modality: tuple(torch.randn(shape, device=device) for shape in shapes) for modality in MODALITIES}


def encode(backbone, streams, passes):
    return [backbone.encode({modality: streams[modality] for modality in modalities}) for modalities in passes]


@torch.inference_mode()
def timed_paths(backbone, batch, dtype):
    """{path: {'clip': seconds for one clip, 'batch': for a batch, 'clips_per_second'}}."""
    device = backbone.ma_encoder.pe.pe.device
    times = {}
    for path, passes in cli.progress(PATHS.items(), 'timing', unit='path', leave=False):
        with autocast(dtype, device):
            clip, many = (median_time(encode, device, backbone, made_streams(backbone, clips), passes)
                          for clips in (1, batch))
        times[path] = {'clip': clip, 'batch': many, 'clips_per_second': batch / many}
    return times


def median_time(work, device, *arguments):
    """Median seconds of a call, what it leaves running on a GPU included."""
    times = []
    while len(times) < WARM_UP + LEAST or sum(times) < SECONDS:
        began = time.perf_counter()
        work(*arguments)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM_UP:])


def report(costs):
    print(f'hidden size {costs["hidden_size"]}, {costs["machine"]}, --amp {costs["amp"]}\n')
    for part, count in costs['parameters'].items():
        print(f'{"parameters, " + part:28}{count / 1e6:12.2f} M')
    print(f'\n{"":28}{"GFLOPs/clip":>12}{"1 clip":>12}{costs["batch_size"]:>6} clips{"clips/s":>10}')
    for path, count in costs['flops'].items():
        line = f'{path:28}{count / 1e9:12.3f}'
        if path in costs['times']:
            clip, batch, rate = costs['times'][path].values()
            line += f'{clip * 1e3:9.2f} ms{batch * 1e3:9.1f} ms{rate:10.1f}'
        print(line)


if __name__ == '__main__':
    cli.run(main)
