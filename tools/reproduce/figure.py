"""The figure of the tables: accuracy of the linear probe against GFLOPs per clip, a panel for each
data set.
"""

from pathlib import Path

from matplotlib.figure import Figure

from feeder.modalities import MODALITIES
from tools.analysis.drawing import COLOURS, styled
from tools.common.files import replacing
from tools.evaluation.late_fusion import NOT_TRAINED_ON

# Kinds of rows, and the marker of each.
ONE = 'one modality'
UNTRAINED = f'several, {NOT_TRAINED_ON}'
EARLY = 'all, early fusion'
LATE = 'all, late fusion'
MARKERS = {ONE: 'o', UNTRAINED: 'D', EARLY: '*', LATE: 's'}


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
        ax.margins(y=0.45)  # for the names below
        here = [row for row in rows if row.data_set == name]
        for row in here:
            draw_row(ax, row)
        for kind in (ONE, UNTRAINED):
            name_rows(ax, [row for row in here if kind_of(row) == kind])
    handles, labels = ax.get_legend_handles_labels()
    handle_of = dict(zip(labels, handles, strict=True))  # one for each kind
    figure.legend(
        handle_of.values(),
        handle_of.keys(),
        loc='outside lower center',
        ncols=2,
        title='modalities by their initials',
    )
    with replacing(path) as file:
        figure.savefig(file, format='png')
    print(f'written: {path}, accuracy against GFLOPs')


def kind_of(row) -> str:
    if NOT_TRAINED_ON in row.note:
        return UNTRAINED
    if '+' in row.of:
        return EARLY
    return ONE if row.of in MODALITIES else LATE


def draw_row(ax, row) -> None:
    """Mark one row."""
    kind = kind_of(row)
    marker = MARKERS[kind]
    ax.errorbar(
        row.gflops,
        row.ours_mean,
        row.ours_std,
        fmt=marker,
        color=COLOURS[list(MARKERS).index(kind)],
        label=kind,
        linewidth=0.7,
        markersize=9 if marker == '*' else 4,
        fillstyle='none' if kind == UNTRAINED else 'full',
    )


def name_rows(ax, rows: list) -> None:
    """Name the modalities of rows of one kind below their marks, in the order of their accuracy. They
    have the same GFLOPs, so names beside the marks would cover each other.
    """
    if not rows:
        return
    rows = sorted(rows, key=lambda row: row.ours_mean, reverse=True)
    lines = ['+'.join(modality[0] for modality in row.of.split('+')) for row in rows]
    lowest = rows[-1].gflops, rows[-1].ours_mean - (rows[-1].ours_std or 0)
    place = {'textcoords': 'offset points', 'ha': 'center', 'va': 'top'}
    ax.annotate('\n'.join(lines), lowest, (0, -4), fontsize=5, **place)
