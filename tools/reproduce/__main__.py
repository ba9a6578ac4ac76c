"""Fill the paper's tables: pre-train what is missing, run every evaluation, put ours beside the
published values.

    ./script_reproduce.sh [data set …] [flags]        for example: ./script_reproduce.sh ntu60_xsub --seeds 0 1 2

Each stage is a command that you can type yourself. Stages that are finished are skipped, so the
same command resumes. Data sets that are not prepared are left out. The tables are printed, and
written to TABLES.md and tables.csv in --out, with a figure of accuracy against GFLOPs per clip,
accuracy_gflops.png. All settings are the published ones, unless you add flags to a stage:
--pretrain-flags "--hidden-size 128 --epochs 50".
"""

import shlex
from pathlib import Path

from data_gen.arrays import layout_of
from data_gen.protocols import DATASETS, Data
from tools.common import cli
from tools.options import ROOT
from tools.reproduce import demo_data, figure, published, tables
from tools.reproduce.stages import NAMES, SCRIPTS, plan

DEFAULT_STAGES = tuple(SCRIPTS)[
    :-1
]  # without the ablation, which uses the flags of pretrain and probe


def main(argv=None):
    args = parse_args(argv)
    if args.demo:
        demo_data.prepare(args.out)
    folders = {
        name: Data(args.data_root, *NAMES[name]).path for name in args.names + args.transfer_to
    }
    missing = [
        name
        for name in folders
        if not all(layout_of(folders[name], split) for split in ('train', 'val'))
    ]
    for name in missing:
        print(f'skipped: {name} is not prepared in {folders[name]}')
    if set(args.names) <= set(missing):
        raise cli.InputError(
            'no data set is prepared: see data_gen/README.md, or name their folder with --data-root'
        )
    transfer_to = [name for name in dict.fromkeys(args.transfer_to) if name not in missing]
    stages = [
        stage
        for name in dict.fromkeys(args.names)
        if name not in missing
        for seed in dict.fromkeys(args.seeds)
        for stage in plan(
            name, seed, transfer_to, args.flags, args.data_root, args.checkpoints, args.out
        )
    ]
    for stage in stages:
        if stage.kind in args.stages:
            print(f'({stage.run():.1f} s)', flush=True)

    added = [f'\n- {stage}: `{shlex.join(flags)}`' for stage, flags in args.flags.items() if flags]
    notes = [
        tables.NOTES,
        demo_data.NOTE * args.demo,
        f'Not prepared here: {", ".join(missing)}.' * bool(missing),
        f'Not as published:\n{"".join(added)}' * bool(added),
    ]
    rows = tables.fill(
        (stage for stage in stages if stage.results), {} if args.demo else published.CELLS
    )
    tables.write(args.out, rows, notes)
    figure.write(args.out / 'accuracy_gflops.png', rows)


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
    if unknown := [name for name in args.names if name not in (*NAMES, *DATASETS)]:
        known = f'{" ".join(NAMES)}, or {" ".join(DATASETS)} for all protocols of one'
        raise cli.InputError(f'there is no data set {unknown[0]}: choose from {known}')
    args.names = [name for given in args.names for name in NAMES if given in (name, NAMES[name][0])]
    for stage in ('semi', 'finetune', 'transfer'):
        if {'--modalities', '--ensemble'} & set(args.flags[stage]):
            raise cli.InputError(
                f'--{stage}-flags: the tables show {tables.FUSED}: leave out --modalities, '
                '--ensemble'
            )
    args.out = args.out or ROOT / 'reproduce' / ('demo' if args.demo else '')
    if args.demo:
        if args.names:
            raise cli.InputError('--demo uses its own data and encoders: leave out the data sets')
        args.names, args.transfer_to = [demo_data.SOURCE], [demo_data.TARGET]
        args.data_root, args.checkpoints = args.out / 'data', args.out / 'checkpoints'
        args.flags = {
            stage: demo_data.FLAGS[stage].split() + flags for stage, flags in args.flags.items()
        }
    args.names = args.names or list(published.DATASETS)
    args.stages = (SCRIPTS if args.demo else DEFAULT_STAGES) if args.stages is None else args.stages
    return args


if __name__ == '__main__':
    cli.run(main)
