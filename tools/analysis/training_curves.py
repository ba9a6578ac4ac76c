"""The losses of one or several runs in one figure: a panel each for total, intra, inter, reg and,
if it is logged, knn.

    python -m tools.analysis.training_curves checkpoints/ntu60_xsub checkpoints/baseline --out curves

A run is its folder or its log.jsonl. --numbers picks others of those in the logs: lr, grad_norm,
clips_per_second, …
"""

import tools.common.start  # noqa: F401

import sys
from pathlib import Path

from matplotlib.figure import Figure

from tools.analysis import drawing
from tools.common import cli
from tools.training.log import read_log

NUMBERS = ('total', 'intra', 'inter', 'reg', 'knn')  # by default, those that are in a log
LINES = ('-', '--', ':', '-.')


def main(argv=None):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        'runs',
        nargs='+',
        type=Path,
        metavar='RUN',
        help='folders of --checkpoint-path, or log.jsonl files',
    )
    flag('--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf')
    flag('--numbers', nargs='+', metavar='NAME', help=f'which (default: {" ".join(NUMBERS)})')
    flag(
        '--titles',
        nargs='+',
        metavar='TITLE',
        help='of the runs (default: the names of their folders)',
    )
    args = parser.parse_args(argv)
    paths = [path / 'log.jsonl' if path.is_dir() else path for path in args.runs]
    runs = [read(path) for path in paths]
    titles = args.titles or [path.absolute().parent.name for path in paths]
    if len(titles) != len(runs):
        raise cli.InputError(f'--titles: {len(titles)} titles for {len(runs)} runs')
    known = list(dict.fromkeys(name for run in runs for line in run for name in line))
    for name in args.numbers or ():
        cli.position(name, known, 'number in these logs named')
    numbers = args.numbers or [name for name in NUMBERS if name in known]
    out = drawing.output(args.out)
    drawing.save(out, draw(runs, titles, numbers))


def read(path: Path) -> list[dict]:
    """The lines of a log.jsonl that are of an epoch; InputError if there are none.

    Prints a note about lines that cannot be read.
    """
    try:
        lines, left_out = read_log(path)
    except OSError as error:
        raise cli.InputError(f'{path} is not a log.jsonl of pretrain.py ({error})') from error
    epochs = [line for line in lines if 'epoch' in line]
    if left_out and not epochs:
        raise cli.InputError(f'{path} is not a log.jsonl of pretrain.py (no line can be read)')
    if not epochs:
        raise cli.InputError(f'{path}: no epoch is finished, so there is nothing to draw')
    if left_out:
        count = cli.plural(left_out, 'line')
        print(f'note: {path}: {count} left out that cannot be read', file=sys.stderr)
    return epochs


@drawing.styled
def draw(runs: list[list[dict]], titles: list[str], numbers: list[str]) -> Figure:
    """A panel for each of `numbers` by epoch; the runs are told apart by colour and dashes."""
    columns = 2 if len(numbers) in (2, 4) else min(3, len(numbers))
    rows = -(-len(numbers) // columns)
    figure = Figure((drawing.PAGE * max(columns, 1.5) / 3, 1.8 * rows), layout='constrained')
    for panel, name in enumerate(numbers, 1):
        ax = figure.add_subplot(rows, columns, panel, title=name, xlabel='epoch')
        ax.grid(linewidth=0.3)
        for index, run in enumerate(runs):
            lines = [line for line in run if name in line]
            ax.plot(
                [line['epoch'] for line in lines],
                [line[name] for line in lines],
                LINES[index % len(LINES)],
                color=drawing.COLOURS[index % len(drawing.COLOURS)],
                linewidth=1,
                marker='.',
                markersize=3 if len(lines) < 20 else 0,
            )
    columns = min(4, len(runs))
    figure.legend(ax.lines, titles, loc='upper center', bbox_to_anchor=(0.5, 0), ncols=columns)
    return figure


if __name__ == '__main__':
    cli.run(main)
