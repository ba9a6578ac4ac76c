"""Fill the paper's tables: pre-train what is missing, run every evaluation, set ours beside the published values.

    ./script_reproduce.sh [data set …] [flags]        such as ./script_reproduce.sh ntu60_xsub --seeds 0 1 2

Data sets that are not prepared are left out. Each stage is a command that you can type yourself. One whose results are
there, made by the same arguments from the same checkpoint and data, is not run again: the same command goes on where it
stopped. The tables are printed and written to TABLES.md and tables.csv in --out. Settings are the published ones unless
flags are passed on to a stage, as in --pretrain-flags "--hidden-size 128 --epochs 50".
"""
import shlex
from pathlib import Path

from data_gen import cli
from data_gen.arrays import layout_of, replacing
from data_gen.protocols import DATASETS, PROTOCOLS
from tools import published, reproduce_demo, tables
from tools.options import ROOT
from tools.stages import ABLATIONS, COMMANDS, NAMES, Evaluation, Pretraining

STAGES = ('pretrain', *COMMANDS)
USUAL = STAGES[:-1]  # all but the ablation, which has no flags of its own


def main(argv=None):
    args = parse(argv)
    if args.demo:
        reproduce_demo.prepare(args.out)
    missing = [name for name in dict.fromkeys(args.names + args.transfer_to) if not prepared(name, args)]
    for name in [name for name in missing if name in args.names or 'transfer' in args.stages]:
        print(f'skipped: {name} is not prepared in {folder_of(name, args)}')
    stages = plan(args, missing)
    for stage in stages:
        if stage.kind in args.stages:
            if stage.done():
                print(f'done before: {" ".join(stage.command)}', flush=True)
            else:
                print(f'({stage.run():.1f} s)', flush=True)
    write(stages, missing, args)


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('names', nargs='*', metavar='data set',
                        help=f'of {" ".join(NAMES)} (default: {" ".join(published.DATASETS)})')
    parser.add_argument('--seeds', type=cli.natural, nargs='+', default=[0], metavar='SEED',
                        help='an encoder for each, and everything with it (default 0)')
    parser.add_argument('--stages', nargs='*', choices=STAGES,
                        help='what to run (default: all but ablation, which pre-trains three more encoders; with '
                             '--demo all); none: fill the tables from what is there')
    parser.add_argument('--transfer-to', nargs='*', choices=NAMES, metavar='data set',
                        help='what encoders of the cross-subject data sets are fine-tuned on (default pku2_xsub)')
    parser.add_argument('--data-root', type=Path, metavar='DIR', help='where the data sets lie (default data/)')
    parser.add_argument('--checkpoints', type=Path, metavar='DIR',
                        help='where encoders lie or go, in folders as script_pretrain.sh names them; one that is there '
                             'is used (default checkpoints/)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='where results go (default reproduce/)')
    for stage in USUAL:
        script = COMMANDS.get(stage, ['pretrain.py'])[0]
        parser.add_argument(f'--{stage}-flags', type=shlex.split, default=[], metavar='"FLAGS"',
                            help=f'passed on to {script}; a single word as --{stage}-flags=--word')
    parser.add_argument('--demo', action='store_true',
                        help='all of it on synthetic recordings, with narrow encoders, in a minute or two; it lands in '
                             'reproduce/demo/')
    args = parser.parse_args(argv)
    settle(args)
    return args


def settle(args):
    """Fill in what was not said; InputError for what makes no sense."""
    if unknown := [name for name in args.names if name not in NAMES]:
        raise cli.InputError(f'{unknown[0]} is no data set here: choose of {" ".join(NAMES)}')
    args.out = (args.out or ROOT / 'reproduce' / ('demo' if args.demo else '')).absolute()
    args.flags = {stage: vars(args).pop(f'{stage}_flags') for stage in USUAL}
    if args.demo:
        if args.names or args.transfer_to or args.data_root or args.checkpoints:
            raise cli.InputError('--demo makes its own data and encoders: leave out data sets and their folders')
        args.names, args.transfer_to = [reproduce_demo.SOURCE], [reproduce_demo.TARGET]
        args.data_root, args.checkpoints = args.out / 'data', args.out / 'checkpoints'
        args.flags = {stage: reproduce_demo.FLAGS[stage].split() + flags for stage, flags in args.flags.items()}
    args.names = args.names or list(published.DATASETS)
    args.transfer_to = ['pku2_xsub'] if args.transfer_to is None else args.transfer_to
    args.data_root = (args.data_root or ROOT / 'data').absolute()
    args.checkpoints = (args.checkpoints or ROOT / 'checkpoints').absolute()
    args.stages = (STAGES if args.demo else USUAL) if args.stages is None else args.stages


def folder_of(name, args):
    dataset, protocol = NAMES[name]
    return args.data_root / DATASETS[dataset].folder / PROTOCOLS[protocol]


def prepared(name, args):
    return all(layout_of(folder_of(name, args), part) for part in ('train', 'val'))


def plan(args, missing):
    """All stages in the order in which they are done, also those that --stages leaves out; InputError for none."""
    names, targets = (dict.fromkeys(name for name in group if name not in missing)
                      for group in (args.names, args.transfer_to))
    if not names:
        raise cli.InputError('no data set is left: prepare one (README), say where it lies with --data-root, or see '
                             '--demo')
    stages = []
    for name, seed in ((name, seed) for name in names for seed in dict.fromkeys(args.seeds)):
        encoder = Pretraining('pretrain', name, 'umurl', seed, args)
        stages += [encoder, *(Evaluation(kind, name, encoder, args)
                              for kind in ('probe', 'retrieval', 'semi', 'finetune'))]
        if NAMES[name][1] in ('cross_subject', 'own_split'):
            stages += [Evaluation('transfer', target, encoder, args, f'from {name}')
                       for target in targets if target != name]
        for objective in ABLATIONS:
            other = Pretraining('ablation', name, objective, seed, args)
            stages += [other, Evaluation('ablation', name, other, args, objective)]
    return stages


def write(stages, missing, args):
    """Print the tables, and write them."""
    notes = [tables.NOTES, *[reproduce_demo.NOTE] * args.demo]
    notes += [f'Not prepared here: {", ".join(missing)}.'] * bool(missing)
    passed_on = [f'- {stage}: `{shlex.join(flags)}`' for stage, flags in args.flags.items() if flags]
    notes += ['Not as published:\n\n' + '\n'.join(passed_on)] * bool(passed_on)
    filled = tables.rows(stages, compare=not args.demo)
    text = tables.markdown(filled, notes)
    args.out.mkdir(parents=True, exist_ok=True)
    with replacing(args.out / 'TABLES.md') as file:
        file.write(text.encode())
    tables.write_csv(args.out / 'tables.csv', filled)
    print(f'\n{text}\n(in {args.out}: TABLES.md and tables.csv)')


if __name__ == '__main__':
    cli.run(main)
