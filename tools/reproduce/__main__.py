"""Fill the paper's tables: pre-train what is missing, run every evaluation, put ours beside the
published values.

    ./script_reproduce.sh [data set …] [flags]        for example: ./script_reproduce.sh ntu60_xsub --seeds 0 1 2

Each stage is a command that you can type yourself. Stages that are finished are skipped, so the
same command resumes. Data sets that are not prepared are left out. The tables are printed, and
written to TABLES.md and tables.csv in --out, with a figure of accuracy against GFLOPs per clip,
accuracy_gflops.png. All settings are the published ones, unless you add flags to a stage:
--pretrain-flags "--hidden-size 128 --epochs 50".
"""

import tools.common.start  # noqa: F401

import shlex
from pathlib import Path

from data_gen.arrays import layout_of
from data_gen.interrupts import resumable
from data_gen.protocols import DATASETS, Data
from tools.common import cli
from tools.options import ROOT
from tools.reproduce import demo_data, figure, published, tables
from tools.reproduce.stages import NAMES, SCRIPTS, plan

# without the ablation, which uses the flags of pretrain and probe
DEFAULT_STAGES = tuple(stage for stage in SCRIPTS if stage != 'ablation')


def main(argv=None):
    args = parse_args(argv)
    if args.demo:
        demo_data.prepare(args.out)
    names, transfer_to = dict.fromkeys(args.names), dict.fromkeys(args.transfer_to)  # each once
    missing = []
    for name in names | transfer_to:
        folder = Data(args.data_root, *NAMES[name]).path
        if not (layout_of(folder, 'train') and layout_of(folder, 'val')):
            print(f'skipped: {name} is not prepared in {folder}')
            missing.append(name)
    names = [name for name in names if name not in missing]
    transfer_to = [name for name in transfer_to if name not in missing]
    if not names:
        raise cli.InputError(
            'no data set is prepared: see data_gen/README.md, or name their folder with --data-root'
        )
    stages = []
    where = args.data_root, args.checkpoints, args.out
    for name in names:
        for seed in dict.fromkeys(args.seeds):
            stages += plan(name, seed, transfer_to, args.flags, *where)
    chosen = [stage for stage in stages if stage.kind in args.stages]
    with resumable():
        for number, stage in enumerate(chosen, 1):
            print(f'\nstage {number} of {len(chosen)}: {stage.kind}, {stage.name}')
            print(f'({stage.run():.1f} s)', flush=True)
    evaluations = [stage for stage in stages if stage.results]
    rows = tables.fill(evaluations, {} if args.demo else published.CELLS)
    tables.write(args.out, rows, notes(args, missing))
    figure.write(args.out / 'accuracy_gflops.png', rows)


def notes(args, missing: list[str]) -> list[str]:
    """What stands above the tables."""
    paragraphs = [tables.NOTES]
    if args.demo:
        paragraphs.append(demo_data.NOTE)
    if missing:
        paragraphs.append(f'Not prepared here: {", ".join(missing)}.')
    added = [f'- {stage}: `{shlex.join(flags)}`' for stage, flags in args.flags.items() if flags]
    if added:
        paragraphs.append('\n\n'.join(['Not as published:', '\n'.join(added)]))
    return paragraphs


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        'names',
        nargs='*',
        metavar='data set',
        help=f'from {" ".join(NAMES)}, or a data set with all its protocols, such as ntu60 '
        f'(default: {" ".join(published.DATASETS)})',
    )
    flag(
        '--seeds',
        type=cli.non_negative_int,
        nargs='+',
        default=[0],
        metavar='SEED',
        help='default 0',
    )
    flag(
        '--stages',
        nargs='*',
        choices=SCRIPTS,
        help='default: all but ablation; none: only fill the tables',
    )
    flag(
        '--transfer-to',
        nargs='*',
        choices=NAMES,
        default=['pku2_xsub'],
        metavar='data set',
        help='default pku2_xsub',
    )
    flag(
        '--data-root',
        type=Path,
        default=ROOT / 'data',
        metavar='DIR',
        help='folder of the data sets (default data/)',
    )
    flag(
        '--checkpoints',
        type=Path,
        default=ROOT / 'checkpoints',
        metavar='DIR',
        help='default checkpoints/',
    )
    flag('--out', type=Path, metavar='DIR', help='folder for results (default reproduce/)')
    for stage in DEFAULT_STAGES:
        flag(
            f'--{stage}-flags',
            type=shlex.split,
            default=[],
            metavar='"FLAGS"',
            help=f'flags to add to {SCRIPTS[stage][0]}; a single one as --{stage}-flags=--flag',
        )
    flag(
        '--demo',
        action='store_true',
        help='everything in minutes on synthetic recordings, in reproduce/demo/',
    )
    args = parser.parse_args(argv)
    args.flags = {stage: vars(args).pop(f'{stage}_flags') for stage in DEFAULT_STAGES}
    args.names = data_sets(args.names)
    for stage in ('semi', 'finetune', 'transfer'):
        if {'--modalities', '--ensemble'} & set(args.flags[stage]):
            raise cli.InputError(
                f'--{stage}-flags: the tables show {tables.FUSED}: leave out --modalities, '
                '--ensemble'
            )
    if args.stages is None:
        args.stages = SCRIPTS if args.demo else DEFAULT_STAGES
    if args.demo:
        use_demo_data(args)
    args.out = args.out or ROOT / 'reproduce'
    args.names = args.names or list(published.DATASETS)
    return args


def data_sets(given: list[str]) -> list[str]:
    """The names of data sets with a protocol, where a data set alone stands for all its protocols."""
    for name in given:
        if name not in NAMES and name not in DATASETS:
            known = f'{" ".join(NAMES)}, or {" ".join(DATASETS)} for all protocols of one'
            raise cli.InputError(f'there is no data set {name}: choose from {known}')
    return [name for word in given for name in NAMES if word in (name, NAMES[name][0])]


def use_demo_data(args) -> None:
    """What --demo sets: its own data and encoders, and flags that learn something in a minute."""
    if args.names:
        raise cli.InputError('--demo uses its own data and encoders: leave out the data sets')
    args.out = args.out or ROOT / 'reproduce' / 'demo'
    args.data_root, args.checkpoints = args.out / 'data', args.out / 'checkpoints'
    args.names, args.transfer_to = [demo_data.SOURCE], [demo_data.TARGET]
    for stage, flags in args.flags.items():
        args.flags[stage] = demo_data.FLAGS[stage].split() + flags


if __name__ == '__main__':
    cli.run(main)
