"""The figure of tools.analysis.tsne, for a column of a paper: equal panels, classes told apart by
colour and marker.
"""

from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from tools.analysis.drawing import COLOURS, COLUMN, PAGE, styled

MARKERS = 'o^sDvP*X<h'
NOTE = 'k-NN (k = 1) among the training clips of these classes; both numbers are of the features, by cosine'


@styled
def draw(panels: list[tuple], classes: np.ndarray, names: list[str]) -> Figure:
    """Draw panels (title, points (P, 2), caption), whose points have `classes` (P,), indices into
    `names`.

    One or two panels take a column's width, more the page's, at most four in a row.
    """
    width, columns = (COLUMN, len(panels)) if len(panels) <= 2 else (PAGE, min(4, len(panels)))
    rows, side = -(-len(panels) // columns), width / columns
    figure = Figure((width, rows * (side + 0.4)), layout='constrained')
    size = np.clip(900 * side**2 / len(classes), 2, 25)
    for position, (title, points, caption) in enumerate(panels, 1):
        ax = figure.add_subplot(
            rows,
            columns,
            position,
            title=fill(title, int(13 * side)),
            xlabel=caption,
            xticks=[],
            yticks=[],
            box_aspect=1,
            aspect='equal',
        )
        handles = [
            ax.scatter(
                *points[classes == number].T,
                size,
                COLOURS[number % 10],
                edgecolors='black',
                alpha=0.85,
                linewidths=0.1,
                marker=MARKERS[(number + number // 10) % 10],
            )  # shifted every ten
            for number in range(len(names))
        ]
    columns = np.clip(int(width / (0.3 + 0.065 * min(40, max(map(len, names))))), 1, 5)
    figure.legend(
        handles,
        [fill(name, 40) for name in names],
        loc='upper center',
        bbox_to_anchor=(0.5, 0),
        ncols=columns,
        title=fill(NOTE, 60),
        markerscale=(20 / size) ** 0.5,
    )
    return figure
