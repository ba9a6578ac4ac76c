"""The figure of the tables: accuracy of the linear probe against GFLOPs per clip, a panel for each
data set.
"""

from pathlib import Path

from matplotlib.figure import Figure

from tools.analysis.drawing import COLOURS, styled
from tools.common.files import replacing

# Kinds of rows and their markers, by the number of modalities that are encoded together.
KINDS = [
    ('one modality', 'o'),
    ('two, combination not trained on', 'D'),
    ('three, early fusion', '*'),
    ('3s, late fusion', 's'),
]


@styled
def write(path: Path, rows: list) -> None:
    """Write accuracy against GFLOPs of the rows of `tables.fill` as a PNG, if a probe was measured."""
    rows = [row for row in rows if row.evaluation == 'linear probe' and row.gflops]
    rows = [row for row in rows if row.ours_mean is not None]
    names = list(dict.fromkeys(row.data_set for row in rows))
    if not names:
        return
    figure = Figure((0.6 + 2.4 * len(names), 2.4), layout='constrained')
    for position, name in enumerate(names, 1):
        ax = figure.add_subplot(1, len(names), position, title=name)
        ax.set(xlabel='GFLOPs per clip', ylabel='accuracy, %')
        ax.set_xlim(0, 1.1 * max(row.gflops for row in rows))
        for row in rows:
            if row.data_set == name:
                draw_row(ax, row)
    handles, labels = ax.get_legend_handles_labels()
    handle_of = dict(zip(labels, handles, strict=True))  # one for each kind
    figure.legend(
        handle_of.values(),
        handle_of.keys(),
        loc='outside lower center',
        ncols=2,
        title='j, b, m: joint, bone, motion',
    )
    with replacing(path) as file:
        figure.savefig(file, format='png')
    print(f'{path}: accuracy against GFLOPs')


def draw_row(ax, row) -> None:
    """Mark one row, and name its modalities if it has one or two."""
    number = 3 if row.of == '3s' else row.of.count('+')
    kind, marker = KINDS[number]
    ax.errorbar(
        row.gflops,
        row.ours_mean,
        row.ours_std,
        fmt=marker,
        color=COLOURS[number],
        label=kind,
        linewidth=0.7,
        markersize=9 if marker == '*' else 4,
        fillstyle='none' if number == 1 else 'full',
    )
    if number < 2:
        initials = '+'.join(modality[0] for modality in row.of.split('+'))
        place = {'textcoords': 'offset points', 'ha': 'right', 'va': 'center'}
        ax.annotate(initials, (row.gflops, row.ours_mean), (-4, 0), fontsize=5, **place)
