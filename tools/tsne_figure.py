"""The figure of `tools.tsne`: equal panels, told apart by colour and marker, for a column of a paper."""
import textwrap
from typing import NamedTuple

import numpy as np

from data_gen.arrays import replacing
from data_gen.cli import InputError

# Okabe and Ito's eight, the darkest last, and a purple and a brown that stay apart from them in every common colour
# blindness (simulated: the closest two of all ten are two of the eight).
COLOURS = ('#0072B2', '#E69F00', '#009E73', '#D55E00', '#56B4E9', '#CC79A7', '#F0E442', '#6600CC', '#663300', '#000000')
MARKERS = 'o^sDvP*X<h'
COLUMN, PAGE = 3.35, 7.0  # inches: the widths of one column and of both
STYLE = {'font.size': 7, 'axes.titlesize': 8, 'axes.linewidth': 0.5,
         'legend.frameon': False, 'legend.title_fontsize': 6, 'legend.columnspacing': 1, 'legend.handletextpad': 0.2,
         'legend.borderpad': 0.1, 'legend.labelspacing': 0.3, 'legend.borderaxespad': 0.2,
         'pdf.fonttype': 42}  # fonts that journals take
NOTE = 'k-NN (k = 1) among the training clips of these classes;\nboth numbers are of the features, by cosine'


class Panel(NamedTuple):
    """What is drawn of one encoder: points (P, 2), and the numbers under them."""
    title: str
    points: np.ndarray
    accuracy: float
    silhouette: float


def require_matplotlib():
    """InputError where there is no matplotlib."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(f'matplotlib cannot be imported ({error}): pip install -r requirements.txt') from error


def write(path, panels, numbers, names):
    """Draw panels, their points of classes `numbers` (P,), called `names`; writes and returns path.png and path.pdf."""
    import matplotlib
    paths = [path.with_suffix(suffix) for suffix in ('.png', '.pdf')]
    with matplotlib.rc_context(STYLE):
        figure = draw(panels, numbers, names)
        for path, more in zip(paths, ({}, {'CreationDate': None}), strict=True):  # the same bytes each time
            with replacing(path) as file:
                figure.savefig(file, format=path.suffix[1:], dpi=300, metadata=more, bbox_inches='tight',
                               pad_inches=0.02)
    return paths


def draw(panels, numbers, names):
    """The figure: at most two panels in a column's width, four in a page's, and more in further rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    width, columns = (COLUMN, len(panels)) if len(panels) <= 2 else (PAGE, min(4, len(panels)))
    rows = -(-len(panels) // columns)
    side = width / columns
    titles = [textwrap.fill(panel.title, int(13 * side)) for panel in panels]
    height = rows * (side + 0.27 + 0.14 * max(1 + title.count('\n') for title in titles))  # with the lines of text
    figure = Figure((width, height), layout='constrained')
    FigureCanvasAgg(figure)  # which measures the legend, without a display
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, panel, title in zip(axes, panels, titles, strict=False):
        handles = scatter(ax, panel, numbers, size=np.clip(900 * side ** 2 / len(numbers), 2, 25))
        ax.set_title(title, parse_math=False, pad=3)
    for ax in axes[len(panels):]:
        ax.set_axis_off()
    add_legend(figure, handles, names)
    return figure


def scatter(ax, panel, numbers, size):
    """One panel: no ticks, equal scales, the numbers below. Returns the handle of each class."""
    from matplotlib.colors import to_rgb
    handles = []
    for number in range(numbers.max() + 1):
        turn, place = divmod(number, len(COLOURS))  # another marker each time round the colours
        colour = np.array(to_rgb(COLOURS[place]))
        handles.append(ax.scatter(*panel.points[numbers == number].T, s=size, color=colour, linewidths=0.2, alpha=0.85,
                                  edgecolors=[0.6 * colour], marker=MARKERS[(place + turn) % len(MARKERS)]))
    ax.set(xticks=[], yticks=[], box_aspect=1)
    ax.set_aspect('equal', adjustable='datalim')
    ax.set_xlabel(f'k-NN {panel.accuracy:.1f} %   silhouette {panel.silhouette:.2f}', labelpad=3)
    return handles


def add_legend(figure, handles, names):
    """Below all panels, in as many columns as the width takes; the figure grows by its height."""
    labels = [textwrap.fill(name, 40) for name in names]
    for columns in range(min(len(labels), 5), 0, -1):
        legend = figure.legend(handles, labels, loc='outside lower center', ncols=columns, title=NOTE)
        legend.get_title().set_multialignment('center')
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
            text.set_parse_math(False)
            handle.set(sizes=[20], alpha=1)
        size = legend.get_window_extent(figure.canvas.get_renderer()).size / figure.dpi
        if size[0] <= figure.get_figwidth() or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + size[1])
