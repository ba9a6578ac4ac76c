"""Flags that the scripts share."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from data_gen.protocols import DATASETS, PROTOCOLS, Data
from feeder.modalities import MODALITIES
from tools import checkpoint
from tools.common.cli import (
    InputError,
    Parser,
    non_negative_float,
    non_negative_int,
    positive_int,
)
from tools.device import AMP

ROOT = Path(__file__).resolve().parent.parent
DATA_ROOT = ROOT / 'data'
DATASET_FLAGS = ('--dataset', '--finetune-dataset')  # the second is the official code's

# Flags of the official code: a script that has no use for one accepts it all the same.
OFFICIAL_FLAGS = (
    ('-j', '--workers'),
    ('--epochs',),
    ('--start-epoch',),
    ('--lr', '--learning-rate'),
    ('--schedule',),
    ('--momentum',),
    ('--wd', '--weight-decay'),
    ('-p', '--print-freq'),
    ('--resume',),
    ('--cos',),
    ('--world-size',),
    ('--local_rank', '--local-rank'),
    ('--dist-url',),
    ('--finetune_skeleton_representation',),
)


def add_data_flags(
    parser: Parser, *dataset_flags: str, before: str = ''
) -> argparse._ArgumentGroup:
    """Which arrays: data set, protocol, and where they are; returns the group `data`.

    before: for the help, what comes before the defaults.
    """
    group = parser.add_argument_group('data')
    flag = group.add_argument
    flag(*dataset_flags, dest='dataset', choices=DATASETS, help=f'default {before}ntu60')
    flag(
        '--protocol',
        choices=PROTOCOLS,
        help=f"default {before}cross_subject, or the data set's only one",
    )
    flag(
        '--data-root',
        type=Path,
        default=DATA_ROOT,
        metavar='DIR',
        help='the folder that holds NTU-RGB-D-60-AGCN/, custom/, … (default: data/)',
    )
    return group


def add_device_flag(parser: Parser) -> None:
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='cuda, cuda:N or cpu (default: cuda if there is a GPU)',
    )


def add_machine_flags(parser: Parser, amp: str, note: str = '') -> argparse._ArgumentGroup:
    """Device, precision and seed; returns the group `running`. amp: the default of --amp; note: for
    its help.
    """
    group = parser.add_argument_group('running')
    add_device_flag(group)
    flag = group.add_argument
    flag('--gpu', type=int, metavar='N', help='use GPU number N; the same as --device cuda:N')
    flag(
        '--amp',
        choices=('auto', *AMP),
        default=amp,
        help='mixed precision; auto: bf16 or else fp16 on a GPU, off on a CPU, but bf16 for wide pre-training on one '
        f'that multiplies in bf16{note} (default {amp})',
    )
    flag(
        '--tf32',
        action='store_true',
        help='float32 matrix products in TF32 on a GPU: faster, 10 bits of mantissa',
    )
    flag('--seed', type=non_negative_int, default=0, help='seed of every random draw (default 0)')
    return group


def add_modalities_flag(parser: Parser) -> None:
    parser.add_argument(
        '--modalities',
        nargs='+',
        choices=MODALITIES,
        help='one takes the uni-modal path, several the fused one (default: all)',
    )


class AsTuple(argparse.Action):
    """Several values as a tuple, as in recipes; argparse gives a list, which cannot be hashed."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, tuple(values))


def add_typed_flag(group, name: str, default, help: str) -> None:
    """A flag named after a field, of the type of its default: a number from 0 up, several (a
    tuple), a switch (a bool) or a text. Not given, it is missing from the parsed flags.
    """
    flag, unset = '--' + name.replace('_', '-'), argparse.SUPPRESS
    if isinstance(default, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=unset, help=help)
        return
    several = len(default) if isinstance(default, tuple) else None
    kind = type(default[0] if several else default)
    kind = {int: non_negative_int, float: non_negative_float}.get(kind, kind)
    action = AsTuple if several else 'store'
    group.add_argument(
        flag, type=kind, nargs=several, action=action, default=unset, metavar='X', help=help
    )


def describe(recipes: dict, field: str) -> str:
    """For the help of the flag that overrides a field of recipes: its value in each, or the one
    that all have.
    """
    values = {name: str(getattr(recipe, field)).strip('[(,)]') for name, recipe in recipes.items()}
    different = len(set(values.values())) > 1
    return 'default ' + (
        '; '.join(f'{name}: {value}' for name, value in values.items())
        if different
        else next(iter(values.values()))
    )


def add_encoding_flags(parser: Parser) -> argparse._ArgumentGroup:
    """What is encoded and how: data, modalities, batch size, device; returns the group `model`."""
    add_data_flags(parser, *DATASET_FLAGS, before="that of the encoder's pre-training, else ")
    group = parser.add_argument_group('model')
    add_modalities_flag(group)
    group.add_argument(
        '--extract-batch',
        type=positive_int,
        default=64,
        metavar='N',
        help='clips encoded at a time (default 64)',
    )
    note = '; features in bf16 or fp16 depend a little on --extract-batch'
    add_machine_flags(parser, 'off', note)  # features are compared with published ones
    return group


def accept_official_flags(parser: Parser) -> None:
    """Accept the official code's flags that this script does not have."""
    ignored = []
    for names in OFFICIAL_FLAGS:
        if not set(names) & parser._option_string_actions.keys():
            dest = f'ignored{names[-1]}'
            parser.add_argument(*names, dest=dest, nargs='*', help=argparse.SUPPRESS)
            ignored.append(names[-1])
    parser.epilog = f'flags of the official code that have no effect here: {" ".join(ignored)}'


def parse_args(
    parser: Parser, argv: list[str] | None, read_source: Callable | None = None
) -> argparse.Namespace:
    """Parse, fill in defaults that depend on other flags or files, and print a note about flags
    without effect.

    read_source: tells what the features in --load-features are of. Of several `sources` the first
    one counts.
    """
    args = parser.parse_args(argv)
    if 'sources' in args:
        use_sources(args)
    if getattr(args, 'load_features', None):
        source = read_source(args.load_features)
        args.dataset, args.protocol = (
            args.dataset or source.dataset,
            args.protocol or source.protocol,
        )
        if source.subsets and len(source.subsets) == 1:
            args.modalities = args.modalities or source.subsets[0]
    elif getattr(args, 'pretrained', None):
        use_checkpoint(args)
    args.dataset = args.dataset or 'ntu60'
    args.protocol = args.protocol or DATASETS[args.dataset].protocols[0]
    if args.modalities or not hasattr(args, 'resume'):  # a resumed run keeps its own
        args.modalities = [
            name for name in MODALITIES if name in (args.modalities or MODALITIES)
        ]  # in the usual order
    if getattr(args, 'skip_finished', False) and not args.results:
        raise InputError('--skip-finished needs --results FILE.json')
    if args.gpu is not None:
        args.device = f'cuda:{args.gpu}'
    if args.tf32 and args.device.startswith('cuda'):
        torch.set_float32_matmul_precision('high')
    ignored = [
        name
        for name, value in vars(args).items()
        if name.startswith('ignored') and value is not None
    ]
    if ignored and os.environ.get('RANK', '0') == '0':
        print(
            f'note: no effect here: {" ".join(name.removeprefix("ignored") for name in ignored)}',
            file=sys.stderr,
        )
    return args


def data_of(args: argparse.Namespace) -> Data:
    """The arrays that the data flags name."""
    return Data(args.data_root, args.dataset, args.protocol)


def use_sources(args: argparse.Namespace) -> None:
    """The checkpoints and .npz of `args.sources`, of which the first becomes --pretrained or
    --load-features. InputError unless all are files.
    """
    args.sources = [newest_in(path) for path in args.sources]
    for path in args.sources:
        if not path.is_file():
            raise InputError(
                f'{path} is not a file: name a checkpoint, or an .npz of --save-features'
            )
    first = args.sources[0]
    if first.suffix == '.npz':
        args.load_features = first
    else:
        args.pretrained = first


def newest_in(path: Path) -> Path:
    """The newest checkpoint of a folder; any other path as it is."""
    newest = checkpoint.newest(path) if path.is_dir() else None
    if newest:
        unfinished = ', of a run that has not finished' if newest.name == checkpoint.LAST else ''
        print(f'{newest} is the newest checkpoint in {path}{unfinished}')
    return newest or path


def use_checkpoint(args: argparse.Namespace) -> None:
    """--pretrained: of a folder the newest; what it was pre-trained on becomes the default of the
    data flags, and the modalities it holds that of --modalities.
    """
    args.pretrained = newest_in(args.pretrained)
    if args.pretrained.is_file() and None in (args.dataset, args.protocol, args.modalities):
        saved = checkpoint.read(args.pretrained, mmap=True)
        args.modalities = args.modalities or known_modalities(saved['state_dict'], args.pretrained)
        known = checkpoint.config_of(args.pretrained, saved) or {}
        args.dataset = args.dataset or known.get('dataset')
        if args.dataset == known.get('dataset'):
            args.protocol = args.protocol or known.get('protocol')


def known_modalities(state: dict, path: Path) -> list[str]:
    """The modalities of a checkpoint; InputError for one of another version of this project."""
    modalities = checkpoint.modalities_in(state)
    for modality in modalities:
        if modality not in MODALITIES:
            raise InputError(f'{path} holds {modality}, which feeder/modalities.py does not have')
    return modalities


def try_outputs(*paths: Path | None) -> None:
    """Create the folders of files that will be written, and try to write there: before the work,
    not after it.
    """
    for path in filter(None, paths):
        if path.is_dir():
            raise InputError(f'{path} is a folder: name a file in it')
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
