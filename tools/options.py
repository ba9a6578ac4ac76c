"""Flags that the three scripts share."""
import sys
from pathlib import Path

import torch

from data_gen.cli import InputError
from data_gen.protocols import DATASETS, PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent


def add_data_flags(parser, dataset_flag):
    """Which arrays: data set, protocol, and where the data lie."""
    parser.add_argument(dataset_flag, dest='dataset', choices=DATASETS, default='ntu60', help='default ntu60')
    parser.add_argument('--protocol', choices=PROTOCOLS, default='cross_subject', help='default cross_subject')
    parser.add_argument('--data-root', type=Path, default=ROOT / 'data', metavar='DIR',
                        help='where NTU-RGB-D-60-AGCN/ lies (default: data/)')


def add_machine_flags(parser):
    """Where, and how precisely, to compute."""
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='cuda, cuda:N or cpu (default: cuda where there is one)')
    parser.add_argument('--gpu', type=int, metavar='N', help='use GPU number N; the same as --device cuda:N')
    parser.add_argument('--amp', choices=('auto', 'bf16', 'fp16', 'off'), default='auto',
                        help='mixed precision (auto: on a GPU bf16 where it can, else fp16; off on a CPU)')
    parser.add_argument('--seed', type=int, default=0, help='seed of every random draw (default 0)')


def add_ignored_flags(parser, **reasons):
    """Flags of the release that can have no effect here: accepted, and said so (`--flag_name='why'`)."""
    for name, reason in reasons.items():
        flags = {'workers': ('-j', '--workers'), 'local_rank': ('--local_rank', '--local-rank'),
                 'lr': ('--lr', '--learning-rate'), 'weight_decay': ('--wd', '--weight-decay'),
                 'print_freq': ('-p', '--print-freq')}.get(name, ('--' + name.replace('_', '-'),))
        nargs = {'nargs': '*'} if name == 'schedule' else {}
        parser.add_argument(*flags, dest=f'ignored_{name}', help=f'no effect: {reason}', **nargs)
    parser.set_defaults(ignored=reasons)


def parse(parser, argv):
    """Parse, settle --gpu and --device, and say which given flags have no effect."""
    args = parser.parse_args(argv)
    if args.gpu is not None:
        args.device = f'cuda:{args.gpu}'
    for name, reason in vars(args).pop('ignored').items():
        if vars(args).pop(f'ignored_{name}') is not None:
            print(f'note: --{name.replace("_", "-")} has no effect here: {reason}', file=sys.stderr)
    return args


def data_folder(args):
    """The folder of the chosen data set and protocol; InputError for a pair that does not exist."""
    dataset = DATASETS[args.dataset]
    benchmark = PROTOCOLS[args.protocol]
    if benchmark not in dataset.benchmarks:
        known = [protocol for protocol, name in PROTOCOLS.items() if name in dataset.benchmarks]
        raise InputError(f'{args.dataset} has no protocol {args.protocol}: choose {" or ".join(known)}')
    folder = args.data_root / dataset.folder / benchmark
    if not folder.is_dir():
        raise InputError(f'{folder} is not there: prepare {args.dataset} with data_gen/ntu_gendata.py, or say where the '
                         'data lie with --data-root')
    return folder


def amp_dtype(amp, device):
    """The autocast dtype for --amp, or None for plain float32."""
    if amp == 'auto':
        if device.type != 'cuda':
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {'bf16': torch.bfloat16, 'fp16': torch.float16, 'off': None}[amp]


def autocast(dtype, device):
    """The autocast context of a dtype from `amp_dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def positive(text):
    """An argparse type: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError
    return int(text)
