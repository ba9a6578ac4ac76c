"""Flags that the three scripts share."""
import os
import sys
from pathlib import Path

import torch

from data_gen.cli import InputError, natural, positive
from data_gen.protocols import DATASETS, PROTOCOLS
from feeder.modalities import MODALITIES

ROOT = Path(__file__).resolve().parent.parent

# Flags of the release, as argparse takes them: a script that has no use for one accepts it and says so.
RELEASE_FLAGS = {
    'workers': (('-j', '--workers'), {}),
    'epochs': (('--epochs',), {}),
    'start_epoch': (('--start-epoch',), {}),
    'lr': (('--lr', '--learning-rate'), {}),
    'schedule': (('--schedule',), {'nargs': '*'}),
    'momentum': (('--momentum',), {}),
    'weight_decay': (('--wd', '--weight-decay'), {}),
    'print_freq': (('-p', '--print-freq'), {}),
    'resume': (('--resume',), {}),
    'cos': (('--cos',), {'action': 'store_const', 'const': True}),
    'world_size': (('--world-size',), {}),
    'local_rank': (('--local_rank', '--local-rank'), {}),
    'dist_url': (('--dist-url',), {}),
}


def add_data_flags(parser, dataset_flag, protocol="default cross_subject, or the data set's only one"):
    """Which arrays: data set, protocol, and where the data lie; protocol: its help."""
    parser.add_argument(dataset_flag, dest='dataset', choices=DATASETS, default='ntu60', help='default ntu60')
    parser.add_argument('--protocol', choices=PROTOCOLS, help=protocol)
    parser.add_argument('--data-root', type=Path, default=ROOT / 'data', metavar='DIR',
                        help='the folder that holds NTU-RGB-D-60-AGCN/, custom/, … (default: data/)')


def add_device_flag(parser):
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='cuda, cuda:N or cpu (default: cuda where there is one)')


def add_machine_flags(parser, amp):
    """Where, and how precisely, to compute; `amp` is the default of --amp."""
    add_device_flag(parser)
    parser.add_argument('--gpu', type=int, metavar='N', help='use GPU number N; the same as --device cuda:N')
    parser.add_argument('--amp', choices=('auto', 'bf16', 'fp16', 'off'), default=amp,
                        help=f'mixed precision; auto: on a GPU bf16 or else fp16, off on a CPU (default {amp})')
    parser.add_argument('--tf32', action='store_true',
                        help='float32 matrix products in TF32, on a GPU that has it: faster, 10 bits of mantissa')
    parser.add_argument('--seed', type=natural, default=0, help='seed of every random draw (default 0)')


def add_evaluation_flags(parser):
    """What the two evaluation scripts have in common."""
    parser.add_argument('--pretrained', type=Path, metavar='CHECKPOINT', help='from pretrain.py, or a released one')
    add_data_flags(parser, '--finetune-dataset')
    parser.add_argument('--modalities', nargs='+', choices=MODALITIES, default=list(MODALITIES),
                        help='one takes the uni-modal path, two or three the fused one (default: all three)')
    several = parser.add_mutually_exclusive_group()
    several.add_argument('--ensemble', action='store_true',
                         help='late fusion: each of --modalities by itself, their scores added ("3s" in tables)')
    several.add_argument('--all-modalities', action='store_true',
                         help='a table of all seven subsets of the modalities and of 3s, from one pass over the data')
    parser.add_argument('--extract-batch', type=positive, metavar='N',
                        help='clips the encoder sees at once (default 512, on a CPU 64: as fast, in less memory)')
    parser.add_argument('--save-features', type=Path, metavar='FILE.npz',
                        help='keep the features; of several subsets as FILE_joint.npz, FILE_joint+bone.npz, …')
    parser.add_argument('--load-features', type=Path, metavar='FILE.npz',
                        help='use kept features, of the same name; no encoder runs')
    parser.add_argument('--results', type=Path, metavar='FILE.json',
                        help='write the scores, the predictions, and how they came about')
    parser.add_argument('--per-class', type=Path, metavar='FILE.csv',
                        help='write the accuracy of each class, and what it is most confused with')
    add_machine_flags(parser, amp='off')  # features that are compared with published ones


def add_ignored_flags(parser, **reasons):
    """Accept flags of RELEASE_FLAGS without effect: `name='why'`."""
    for name, reason in reasons.items():
        flags, how = RELEASE_FLAGS[name]
        parser.add_argument(*flags, dest=f'ignored_{name}', help=f'no effect: {reason}', **how)
    parser.set_defaults(ignored=reasons)


def parse(parser, argv):
    """Parse, settle --gpu, make the folders of what will be written, and say which given flags have no effect."""
    args = parser.parse_args(argv)
    args.protocol = args.protocol or DATASETS[args.dataset].protocols[0]
    if 'modalities' in args:  # each once, in the order of the tables
        args.modalities = [modality for modality in MODALITIES if modality in args.modalities]
    if args.gpu is not None:
        args.device = f'cuda:{args.gpu}'
    if 'extract_batch' in args and args.extract_batch is None:
        args.extract_batch = 512 if args.device.startswith('cuda') else 64
    if args.tf32 and args.device.startswith('cuda'):
        torch.set_float32_matmul_precision('high')
    for name in ('save_features', 'results', 'per_class'):  # no result is to be lost to a folder that is not there yet
        if getattr(args, name, None):
            getattr(args, name).parent.mkdir(parents=True, exist_ok=True)
    for name, reason in vars(args).pop('ignored').items():
        if vars(args).pop(f'ignored_{name}') is not None and os.environ.get('RANK', '0') == '0':
            flag = next(flag for flag in RELEASE_FLAGS[name][0] if flag.startswith('--'))
            print(f'note: {flag} has no effect here: {reason}', file=sys.stderr)
    return args


def data_folder(args):
    """The folder of the chosen data set and protocol; InputError for a pair that does not exist."""
    dataset = DATASETS[args.dataset]
    benchmark = PROTOCOLS[args.protocol]
    if benchmark not in dataset.benchmarks:
        raise InputError(f'{args.dataset} has no protocol {args.protocol}: choose {" or ".join(dataset.protocols)}')
    folder = args.data_root / dataset.folder / benchmark
    if not folder.is_dir():
        raise InputError(f'{folder} is not there: prepare {args.dataset} first (README), or say where '
                         'the data lie with --data-root')
    return folder
