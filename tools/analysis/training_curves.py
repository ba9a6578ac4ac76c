"""The losses of one or several runs in one figure, with a panel for each number that pretrain.py logs.

    python -m tools.analysis.training_curves checkpoints/ntu60_xsub checkpoints/baseline --out curves

A run is its folder or its log.jsonl. --numbers picks others of those in the log, such as lr, grad_norm, std_z_j or
clips_per_second.
"""
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data_gen import cli
from tools.analysis import drawing

NUMBERS = ('total', 'intra', 'inter', 'reg', 'knn')  # by default, those that are in a log
LINES = ('-', '--', ':', '-.')


def main(argv=None):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('runs', nargs='+', type=Path, metavar='RUN', help='folders of --checkpoint-path, or log.jsonl files')
    flag('--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf')
    flag('--numbers', nargs='+', metavar='NAME', help=f'which (default: {" ".join(NUMBERS)})')
    flag('--titles', nargs='+', metavar='TITLE', help='of the runs (default: the names of their folders)')
    args = parser.parse_args(argv)
    logs = [path / 'log.jsonl' if path.is_dir() else path for path in args.runs]
    titles = args.titles or [path.absolute().parent.name for path in logs]
    if len(titles) != len(logs):
        raise cli.InputError(f'--titles: {len(titles)} titles for {len(logs)} runs')
    runs = {title: read(path) for title, path in zip(titles, logs, strict=True)}
    if len(runs) < len(logs):
        raise cli.InputError('some runs have the same title: give each its own with --titles')
    known = list(dict.fromkeys(name for epochs in runs.values() for line in epochs for name in line))
    for name in args.numbers or ():
        cli.position(name, known, 'number in these logs named')
    out = drawing.output(args.out)
    drawing.save(out, draw(runs, args.numbers or [name for name in NUMBERS if name in known]))
    print(f'{out}.png and .pdf')


def read(path: Path) -> list[dict]:
    """The lines of a log.jsonl that are of an epoch; InputError if there are none."""
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        epochs = [line for line in lines if 'epoch' in line]
    except (OSError, ValueError, TypeError) as error:
        raise cli.InputError(f'{path} is not a log.jsonl of pretrain.py ({error})') from error
    if not epochs:
        raise cli.InputError(f'{path}: no epoch is finished, so there is nothing to draw')
    return epochs


@drawing.styled
def draw(runs: dict[str, list[dict]], numbers: list[str]) -> Figure:
    """A panel for each of `numbers` by epoch, at most three in a row; a line for each run, apart by colour and dashes."""
    columns = min(3, len(numbers))
    rows = -(-len(numbers) // columns)
    figure = Figure((drawing.PAGE * max(columns, 1.5) / 3, 1.8 * rows), layout='constrained')
    for panel, name in enumerate(numbers):
        ax = figure.add_subplot(rows, columns, panel + 1, title=name.replace('_', ' '), xlabel='epoch')
        ax.grid(linewidth=0.3)
        for index, epochs in enumerate(runs.values()):
            points = np.array([(line['epoch'], line[name]) for line in epochs if name in line]).reshape(-1, 2)
            ax.plot(*points.T, LINES[index % 4], color=drawing.COLOURS[index % 10], linewidth=1,
                    marker='o' * (len(points) < 20), markersize=2)
    handles = figure.axes[0].lines
    figure.legend(handles, list(runs), loc='upper center', bbox_to_anchor=(0.5, 0), ncols=min(4, len(runs)))
    return figure


if __name__ == '__main__':
    cli.run(main)
