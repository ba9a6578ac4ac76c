"""Which classes are taken for which? The confusion matrix of a results file, and the accuracy of
each class.

    python -m tools.analysis.confusion results.json --out confusion

A row holds the test clips of a class, as shares of them. Classes that are often taken for each
other are side by side. The colours follow the square root of the share, so that rare mistakes show,
too. The ten most frequent are printed.
"""

import tools.common.start  # noqa: F401

from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import confusion_matrix

from tools.analysis import compare, drawing
from tools.common import cli

NUMBERED = 20  # classes, up to which the cells have numbers


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('file', type=Path, metavar='RESULTS.json', help='of --results')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf'
    )
    args = parser.parse_args(argv)
    record, out = compare.read(args.file), drawing.output(args.out)
    classes, counts = count(record['labels'], record['predictions'])
    class_names = record.get('class_names')
    names = [class_names[label] if class_names else f'A{label + 1:03d}' for label in classes]
    for true, taken_for in worst(counts)[:10]:
        share = f'{counts[true, taken_for]} of {counts[true].sum()} clips'
        print(f'{names[true]} taken for {names[taken_for]}: {share}')
    order = by_confusion(counts)
    figure = draw(counts[np.ix_(order, order)], [names[index] for index in order])
    drawing.save(out, figure)


def count(labels, predictions) -> tuple[np.ndarray, np.ndarray]:
    """The classes (C,) that occur, and how many clips of each (row) are taken for each (column):
    (C, C).
    """
    classes = np.union1d(labels, predictions)
    if len(classes) < 2:
        raise cli.InputError('there is only one class, so nothing can be confused')
    return classes, confusion_matrix(labels, predictions, labels=classes)


def shares(counts: np.ndarray) -> np.ndarray:
    """Counts (C, C) as shares of their rows, 0 in a row without clips."""
    return counts / counts.sum(1, keepdims=True).clip(1)


def by_confusion(counts: np.ndarray) -> np.ndarray:
    """An order (C,) of the classes in which those that are often taken for each other are close."""
    distance = 1 - (shares(counts) + shares(counts).T) / 2
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance), 'average', optimal_ordering=True))


def worst(counts: np.ndarray) -> list[tuple[int, int]]:
    """All confusions, the most frequent first, by share of the class's clips: (class, the class it
    is taken for).
    """
    wrong = shares(counts)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind='stable')[: np.count_nonzero(wrong)]
    return [divmod(int(index), len(counts)) for index in order]


@drawing.styled
def draw(counts: np.ndarray, names: list[str]) -> Figure:
    """The matrix of counts (C, C), in this order, and beside it a bar for the accuracy of each
    class.
    """
    number = len(names)
    numbered = number <= NUMBERED
    percent = 100 * shares(counts)
    names = [short_name(name) for name in names]
    side = np.clip(6 / number, 0.085, 0.35)  # of a cell, in inches
    size = min(7, 60 * side)  # of the text, in points
    margin = max(map(len, names)) * size / 110  # inches for the longest name
    margins = margin if numbered else 2 * margin
    figure = Figure(
        (number * side + 2.4 + margins, number * side + 0.5 + margin), layout='constrained'
    )
    matrix, bars = figure.subplots(1, 2, sharey=True, width_ratios=(number * side, 1.3))
    image = matrix.imshow(percent, 'Blues', PowerNorm(0.5, 0, 100), aspect='auto')
    matrix.set_xticks(range(number), names, rotation=90, fontsize=size)
    matrix.set_yticks(range(number), names, fontsize=size)
    matrix.set(xlabel='predicted', ylabel='class')
    if numbered:
        write_numbers(matrix, percent)
    bars.barh(range(number), percent.diagonal(), 0.75, color=drawing.COLOURS[0])
    bars.set(xlabel='accuracy (%)', xlim=(0, 100), axisbelow=True)
    bars.grid(axis='x', linewidth=0.3)
    bars.tick_params(axis='y', left=False, labelleft=not numbered, labelsize=size)
    scale = figure.colorbar(image, ax=[matrix, bars], aspect=40, fraction=0.03)
    scale.set_label('share of the class (%)')
    scale.set_ticks((0, 1, 5, 20, 50, 100))
    return figure


def short_name(name: str) -> str:
    """At most 30 letters of a name."""
    return name if len(name) <= 30 else f'{name[:29]}…'


def write_numbers(ax, percent: np.ndarray) -> None:
    """Write the percentages (C, C) into their cells, but for those that round to 0."""
    for (row, column), share in np.ndenumerate(percent):
        if share >= 0.5:
            colour = 'white' if share > 30 else 'black'
            ax.text(column, row, f'{share:.0f}', ha='center', va='center', color=colour)


if __name__ == '__main__':
    cli.run(main)
