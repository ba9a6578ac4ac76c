"""How fast the project is here, against this machine's own peaks, which are measured beside each stage.

    python -m tools.benchmark [--stages forward backward …] [--dtype float32 bf16] [--json FILE] [--profile FILE]

read, normalise     raw recordings, for all protocols
load                prepared arrays, in the published layout, to memory
views               a batch's four augmented views, and their streams
forward, backward   of the model; objective: its value and gradient; optimizer: Adam
step                of pre-training, whole: all of the above from views on, as pretrain.py makes it
features            of a frozen encoder, three modalities fused
probe, knn          one epoch of the linear probe; retrieval, k = 1

A stage is bound by computing or by memory, whichever takes longer at its peak: matrix products (torch.mm) in its dtype,
or copying. "of peak" is how near it comes to that. FLOPs are by formula, of matrix products alone; bytes the least that
must move. "ratio" is its time over that of a plain form of the same work. Shared machines lie about seconds, less about
ratios: all figures are medians over several rounds through all stages.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from data_gen import cli
from data_gen.arrays import replacing
from tools import benchmark_report, options
from tools.benchmark_stages import data_stages, evaluation_stages, feature_stage, load_stage, made_clips
from tools.benchmark_training import Training, training_stages
from tools.device import DTYPES, name_of, select
from tools.yardsticks import Machine, best

STEP = ('views', 'forward', 'objective', 'backward', 'optimizer', 'step')
STAGES = ('read', 'normalise', 'load', *STEP, 'features', 'probe', 'knn')
SIZES = {'cpu': {'batch_size': 64, 'dtype': ['float32'], 'clips': 128, 'train_clips': 8192, 'val_clips': 2048,
                 'repeats': 2},
         'cuda': {'batch_size': 512, 'dtype': ['bf16'], 'clips': 8192, 'train_clips': 40_091, 'val_clips': 16_487,
                  'repeats': 5}}


def main(argv=None):
    args = parse(argv)
    device = select(args.device)
    if args.tf32:
        torch.set_float32_matmul_precision('high')
    machine = Machine(device, args.hidden_size, args.batch_size)
    rows = measured(args, machine, device)
    about = {'command': sys.argv, 'torch': torch.__version__, 'device': name_of(device), 'compile': args.compile,
             'hidden_size': args.hidden_size, 'batch_size': args.batch_size, 'peaks': machine.peaks(),
             'peak_memory': machine.peak_memory()}
    benchmark_report.show(rows, about)
    if args.json:
        with replacing(args.json) as file:
            file.write(json.dumps(about | {'rows': rows}, indent=1).encode() + b'\n')
    if args.profile:
        training = Training(made_clips(args.batch_size), args, args.dtype[0], device)
        benchmark_report.profile(training.steps, args.profile, device)


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=STAGES, metavar='STAGE', help='default: all')
    options.add_device_flag(parser)
    parser.add_argument('--dtype', nargs='+', choices=DTYPES,
                        help='of the model, one or several (default: float32 on a CPU, bf16 on a GPU)')
    parser.add_argument('--tf32', action='store_true', help='float32 matrix products in TF32, the peak too')
    parser.add_argument('--compile', action='store_true', help='torch.compile the model and the objective')
    parser.add_argument('--hidden-size', type=cli.positive, default=1024, help='encoder width (default 1024)')
    for name, what in (('batch_size', 'clips of a step'), ('clips', 'clips to train on and to encode'),
                       ('train_clips', "the probe's, and those that are searched"), ('val_clips', 'queries of k-NN'),
                       ('repeats', 'rounds through all stages')):
        default = ', '.join(f'{sizes[name]} on {device.upper()}' for device, sizes in SIZES.items())
        parser.add_argument('--' + name.replace('_', '-'), type=cli.positive, metavar='N',
                            help=f'{what} (default {default})')
    parser.add_argument('--classes', type=cli.positive, default=60, metavar='N', help='of the probe (default 60)')
    parser.add_argument('--recordings', type=Path, metavar='FOLDER', help='.skeleton files (default: demo recordings)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the table there too')
    parser.add_argument('--profile', type=Path, metavar='FILE', help='write a trace of some steps (chrome://tracing)')
    args = parser.parse_args(argv)
    sizes = SIZES['cuda' if args.device.startswith('cuda') else 'cpu']
    args = argparse.Namespace(**vars(args) | {name: getattr(args, name) or size for name, size in sizes.items()})
    if args.hidden_size % 2 or args.batch_size < 2:
        parser.error('--hidden-size must be even, and --batch-size at least 2')
    for path in filter(None, (args.json, args.profile)):  # a result must not be lost to a folder that is not there yet
        path.parent.mkdir(parents=True, exist_ok=True)
    return args


def measured(args, machine, device):
    """A row of the table for each stage."""
    with tempfile.TemporaryDirectory() as folder:
        stages = list(chosen_stages(args, Path(folder), device))
        peaks = {'copy': machine.copy()}
        peaks |= {dtype: machine.matmul(dtype) for dtype in dict.fromkeys(stage.dtype for stage in stages)}
        if device.type == 'cpu' and torch.backends.mkldnn.is_available():
            machine.onednn()
        if device.type == 'cuda' or args.compile:  # the first call loads, tunes or compiles kernels
            for stage in stages:
                best(stage.work, device, stage.ready)
        rounds = []
        for number in range(1, args.repeats + 1):
            bar = cli.progress(stages, f'round {number} of {args.repeats}', unit='stage')
            rounds.append([timed(stage, bound(stage, peaks), machine) for stage in bar])
    return [row(stage, bound(stage, peaks), times) for stage, *times in zip(stages, *rounds, strict=True)]


def chosen_stages(args, folder, device):
    """The stages of --stages; no model is made for those that are not."""
    clips = made_clips(max(args.clips, args.batch_size))
    groups = [(('read', 'normalise'), lambda: data_stages(folder, args.recordings)),
              (('load',), lambda: [load_stage(folder, clips)])]
    for dtype in args.dtype:
        groups += [(STEP, lambda dtype=dtype: training_stages(clips, args, dtype, device)),
                   (('features',), lambda dtype=dtype: [feature_stage(clips, args, dtype, device)])]
    groups.append((('probe', 'knn'), lambda: evaluation_stages(args, device)))
    for names, build in groups:
        if not set(names).isdisjoint(args.stages):
            yield from (stage for stage in build() if stage.name in args.stages)


def bound(stage, peaks):
    """What limits a stage: 'compute' or 'memory'."""
    return 'compute' if stage.flops / peaks[stage.dtype] >= stage.bytes / peaks['copy'] else 'memory'


def timed(stage, limit, machine):
    """Seconds of a stage, the peak around it, the fraction of it that is reached, and the yardstick's seconds."""
    def peak():
        return machine.copy() if limit == 'memory' else machine.matmul(stage.dtype)
    before = peak()
    seconds = best(stage.work, machine.device, stage.ready) / stage.calls
    reached = (stage.bytes if limit == 'memory' else stage.flops) / seconds
    near = (before + peak()) / 2
    yardstick = stage.times * best(stage.yardstick, machine.device, stage.ready) if stage.yardstick else None
    return seconds, near, reached / near, yardstick


def row(stage, limit, times):
    """The medians of a stage over the rounds."""
    seconds, peak, fraction = (median(values) for values in list(zip(*times, strict=True))[:3])
    made = {'stage': stage.name, 'dtype': stage.dtype, 'seconds': seconds, 'clips': stage.clips,
            'clips_per_second': stage.clips / seconds, 'flops': stage.flops, 'flops_per_second': stage.flops / seconds,
            'bytes': stage.bytes, 'bytes_per_second': stage.bytes / seconds, 'bound': limit, 'peak': peak,
            'of_peak': fraction}
    if stage.yardstick:
        made |= {'against': stage.against, 'yardstick_seconds': median(time[3] for time in times),
                 'ratio': median(time[0] / time[3] for time in times)}
    return made


if __name__ == '__main__':
    cli.run(main)
