"""Results files -> the paper's tables: published accuracy, ours, and the difference, as Markdown
and CSV.
"""

import csv
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from feeder.modalities import MODALITIES
from tools.evaluation.late_fusion import fusion_rows
from tools.reproduce.stages import LABEL_SHARES, NAMES, Stage
from tools.scores import mean_std

FUSED = '+'.join(MODALITIES)
TITLES = {
    'probe': 'linear probe',
    'retrieval': 'k-NN retrieval',
    'semi': 'semi-supervised',
    'finetune': 'fine-tuning',
    'transfer': 'transfer, fine-tuning',
    'ablation': 'objective, linear probe',
}
TITLE_CELLS = [
    'evaluation',
    'of',
    'GFLOPs',
    'published',
    'source',
    'ours',
    'difference',
    'last epoch',
    'note',
]
NOTES = f"""\
Top-1 accuracy in %. Published: UmURL, ACM MM 2023, arXiv 2311.03106; –: not published, or not measured here.
Ours is the mean ± standard deviation (n - 1) over pre-training seeds. *draws*: the same over the label draws or repeats
of one encoder, root mean square over encoders. With training, *ours* is the best accuracy on the test clips, evaluated
every 5 epochs, as the official code reports it; *last epoch* selects nothing on the test clips. Semi-supervised,
fine-tuning, transfer and objective use {FUSED}. GFLOPs are of one clip.
"""


class Row(NamedTuple):
    """A row of the tables; None where nothing was published or measured."""

    data_set: str
    evaluation: str
    of: str
    gflops: float | None
    published: float | None  # like all accuracies in %
    source: str | None
    ours_mean: float | None
    ours_std: float | None
    ours_draws_std: float | None
    difference: float | None
    last_epoch_mean: float | None
    last_epoch_std: float | None
    last_epoch_draws_std: float | None
    seeds: int
    runs: int
    note: str


def runs_by_row(stage: Stage) -> dict[str, list[dict]]:
    """The results of an evaluation by the row they belong to. Rows that nothing was measured for
    are empty.
    """
    record = stage.record()
    if stage.kind in ('probe', 'retrieval'):
        rows = {row.name: [] for row in fusion_rows(MODALITIES, all_modalities=True)}
        for run in record.get('table', []):
            rows[run['modalities']] = [run]
        return rows
    runs = record.get('runs', [record]) if record else []
    runs = [run for run in runs if run['modalities'] == FUSED]
    if stage.kind != 'semi':
        return {stage.row or FUSED: runs}
    shares = dict.fromkeys(run['data_ratio'] for run in runs) or LABEL_SHARES
    rows = {}
    for share in shares:
        rows[f'{100 * share:g} % of the labels'] = [
            run for run in runs if run['data_ratio'] == share
        ]
    return rows


def fill(evaluations: Iterable[Stage], published: dict) -> list[Row]:
    """The tables, row by row, beside what is published: `published.CELLS`."""
    filled = {}  # the runs of each seed by data set, evaluation and row
    for stage in evaluations:
        for of, runs in runs_by_row(stage).items():
            if stage.kind == 'ablation':  # next to the whole objective
                filled[stage.name, 'ablation', 'umurl'] = filled[stage.name, 'probe', FUSED]
            seeds = filled.setdefault((stage.name, stage.kind, of), [])
            if runs:
                seeds.append(runs)
    names = list(dict.fromkeys(name for name, _, _ in filled))
    kinds = list(TITLES)
    order = sorted(filled, key=lambda key: (names.index(key[0]), kinds.index(key[1])))
    return [row_of(*key, filled[key], *published.get(key, (None, None))) for key in order]


def row_of(
    name: str,
    kind: str,
    of: str,
    seeds: list[list[dict]],
    published: float | None,
    source: str | None,
) -> Row:
    """The row of an evaluation, from the runs of each seed."""
    runs = list(chain(*seeds))
    first = runs[0] if runs else {}
    best = [[run.get('best_accuracy', run['accuracy']) for run in draws] for draws in seeds]
    last = [[run['accuracy'] for run in draws if 'best_accuracy' in run] for draws in seeds]
    ours = spreads(best)
    difference = None if published is None or not runs else ours[0] - published
    notes = [first['note']] if first.get('note') else []
    if not name.startswith('ntu') and kind != 'transfer':
        notes.append('settings not published')
    return Row(
        name,
        TITLES[kind],
        of,
        first.get('gflops'),
        published,
        source,
        *ours,
        difference,
        *spreads(last),
        len(seeds),
        len(runs),
        ', '.join(notes),
    )


def spreads(seeds: list[list[float]]) -> tuple[float | None, float | None, float | None]:
    """Mean, standard deviation over seeds, and over the draws of one seed, of the accuracies of
    each seed's draws.
    """
    if not any(seeds):
        return None, None, None
    means, deviations = zip(*map(mean_std, seeds), strict=True)
    mean_square, _ = mean_std([deviation**2 for deviation in deviations])
    return *mean_std(means), mean_square**0.5


def to_markdown(rows: list[Row], notes: list[str]) -> str:
    """One table per data set, below the notes."""
    sections = ['# Published and reproduced accuracy', *notes]
    for name in dict.fromkeys(row.data_set for row in rows):
        lines = [TITLE_CELLS, ['---'] * len(TITLE_CELLS)]
        lines += [to_cells(row) for row in rows if row.data_set == name]
        sections.append(f'## {" ".join(NAMES[name])}')
        sections.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
    return '\n\n'.join(section.strip('\n') for section in sections) + '\n'


def to_cells(row: Row) -> list[str]:
    spread = '{0:.2f}'
    if row.seeds > 1:
        spread += ' ± {1:.2f}'
    if row.runs > row.seeds:
        spread += ' (draws ± {2:.2f})'
    return [
        row.evaluation,
        row.of,
        cell('{:.3g}', row.gflops),
        cell('{:.1f}', row.published),
        cell('{}', row.source),
        cell(spread, row.ours_mean, row.ours_std, row.ours_draws_std),
        cell('{:+.1f}', row.difference),
        cell(spread, row.last_epoch_mean, row.last_epoch_std, row.last_epoch_draws_std),
        cell('{}', row.note or None),
    ]


def cell(form: str, *values) -> str:
    """The values in their form; a dash if there are none."""
    return '–' if values[0] is None else form.format(*values)


def write(folder: Path, rows: list[Row], notes: list[str]) -> None:
    """Print the tables, and write TABLES.md and, with all digits, tables.csv."""
    text = to_markdown(rows, notes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'TABLES.md').write_text(text)
    with open(folder / 'tables.csv', 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([Row._fields, *rows])
    print(f'\n{text}\n(in {folder}: TABLES.md and tables.csv)')
