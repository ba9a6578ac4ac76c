"""Which classes are taken for which? The confusion matrix of a results file, and the accuracy of each class.

    python -m tools.analysis.confusion results.json --out confusion

A row holds the test clips of a class, as shares of them. Classes that are taken for each other are next to each other
(clustered by how often they are). The colours follow the square root of the share, so that rare mistakes show, too. The
most frequent confusions are also printed; --worst N sets how many.
"""
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from data_gen import cli
from tools.analysis import compare, drawing

NUMBERED = 20  # classes, up to which the cells have numbers


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('file', type=Path, metavar='RESULTS.json', help='of --results')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf')
    parser.add_argument('--worst', type=cli.positive_int, default=10, metavar='N', help='confusions printed (10)')
    args = parser.parse_args(argv)
    record, out = compare.read(args.file), drawing.output(args.out)
    classes, counts = count(np.array(record['labels']), np.array(record['predictions']))
    class_names = record.get('class_names')
    names = [class_names[label] if class_names else f'A{label + 1:03d}' for label in classes]
    for true, taken_for in worst(counts, args.worst):
        print(f'{names[true]} taken for {names[taken_for]}: {counts[true, taken_for]} of {counts[true].sum()} clips')
    order = by_confusion(counts)
    drawing.save(out, draw(counts[np.ix_(order, order)], [names[index] for index in order]))
    print(f'{out}.png and .pdf')


def count(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes (C,) that occur, and how many clips of each (row) are taken for each (column): (C, C)."""
    classes, both = np.unique(np.concatenate((labels, predictions)), return_inverse=True)
    if len(classes) < 2:
        raise cli.InputError('the results have only one class, so there is nothing to confuse')
    true, predicted = both.reshape(2, -1)
    counts = np.zeros(2 * [len(classes)], int)
    np.add.at(counts, (true, predicted), 1)
    return classes, counts


def shares(counts: np.ndarray) -> np.ndarray:
    """Counts (C, C) as shares of their rows; NaN in a row without clips."""
    clips = counts.sum(1, keepdims=True)
    return np.divide(counts, clips, out=np.full(counts.shape, np.nan), where=clips > 0)


def by_confusion(counts: np.ndarray) -> np.ndarray:
    """An order (C,) of the classes in which those that are often taken for each other are close."""
    taken = np.nan_to_num(shares(counts))
    distance = 1 - (taken + taken.T) / 2
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance), 'average', optimal_ordering=True))


def worst(counts: np.ndarray, number: int) -> list[tuple[int, int]]:
    """The most frequent confusions, by share of the class's clips, as pairs (class, the class it is taken for)."""
    wrong = np.nan_to_num(shares(counts))
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind='stable')[:number]
    return [divmod(int(index), len(counts)) for index in order if wrong.flat[index] > 0]


@drawing.styled
def draw(counts: np.ndarray, names: list[str]) -> Figure:
    """The matrix of counts (C, C), in this order, and beside it a bar for the accuracy of each class."""
    percent, number = 100 * shares(counts), len(names)
    side = np.clip(6 / number, 0.085, 0.35)  # inches, of a cell
    size = min(7, 60 * side)
    names = [name if len(name) <= 30 else f'{name[:29]}…' for name in map(str, names)]
    margin = max(map(len, names)) * size / 110  # inches
    figure = Figure((number * side + 2.4 + margin * (1 + (number > NUMBERED)), number * side + 0.5 + margin),
                    layout='constrained')
    matrix, bars = figure.subplots(1, 2, sharey=True, width_ratios=(number * side, 1.3))
    image = matrix.imshow(percent, 'Blues', PowerNorm(0.5, 0, 100), aspect='auto')
    matrix.set_xticks(range(number), names, rotation=90, fontsize=size)
    matrix.set_yticks(range(number), names, fontsize=size)
    matrix.set(xlabel='predicted', ylabel='class')
    bars.barh(range(number), np.nan_to_num(percent.diagonal()), 0.75, color=drawing.COLOURS[0])
    bars.set(xlabel='accuracy (%)', xlim=(0, 100))
    bars.set_axisbelow(True)
    bars.grid(axis='x', linewidth=0.3)
    bars.tick_params(axis='y', left=False, labelleft=number > NUMBERED, labelsize=size)
    if number <= NUMBERED:
        for (row, column), share in np.ndenumerate(percent):
            if share >= 0.5:
                matrix.text(column, row, f'{share:.0f}', ha='center', va='center', fontsize=size,
                            color='white' if share > 30 else 'black')
    figure.colorbar(image, ax=[matrix, bars], label='share of the class (%)', ticks=(0, 1, 5, 20, 50, 100), aspect=40,
                    fraction=0.03)
    return figure


if __name__ == '__main__':
    cli.run(main)
