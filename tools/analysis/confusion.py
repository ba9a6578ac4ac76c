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
from scipy.cluster.hierarchy import average, leaves_list
from scipy.spatial.distance import squareform

from data_gen import cli
from tools import results
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
    names = [(record.get('class_names') or {}) and record['class_names'][label] or f'A{label + 1:03d}' for label in classes]
    for true, taken_for in worst(counts, args.worst):
        print(f'{names[true]} taken for {names[taken_for]}: {counts[true, taken_for]} of {counts[true].sum()} clips')
    order = by_confusion(counts)
    drawing.save(out, draw(counts[np.ix_(order, order)], [names[index] for index in order]))
    print(f'{out}.png and .pdf')
