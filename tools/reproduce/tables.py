"""Results files -> the paper's tables: published accuracy, ours, and the difference, as Markdown
and CSV.
"""

import csv
from collections import namedtuple
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from feeder.modalities import MODALITIES
from tools.evaluation.late_fusion import fusion_rows
from tools.reproduce.stages import NAMES, Stage
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

# A row of the tables: accuracies in %, their mean and standard deviations; None where nothing was
# measured.
Row = namedtuple(
    'Row',
    'data_set evaluation of gflops published source ours_mean ours_std ours_draws_std difference '
    'last_epoch_mean last_epoch_std last_epoch_draws_std seeds runs note',
)


def runs_by_row(stage: Stage) -> dict[str, list[dict]]:
    """The results of an evaluation by the row they belong to. Rows that nothing was measured for
    are empty.
    """
    record = stage.record()
    if stage.kind in ('probe', 'retrieval'):
        rows = {row.name: [] for row in fusion_rows(MODALITIES, all_modalities=True)}
        return rows | {run['modalities']: [run] for run in record.get('table', [])}
    runs = [
        run for run in record.get('runs', [record] * bool(record)) if run['modalities'] == FUSED
    ]
    if stage.kind == 'semi':
        shares = dict.fromkeys(run['data_ratio'] for run in runs) or (0.01, 0.05, 0.1, 0.2)
        return {
            f'{100 * share:g} % of the labels': [run for run in runs if run['data_ratio'] == share]
            for share in shares
        }
    return {stage.row or FUSED: runs}


def fill(evaluations: Iterable[Stage], published: dict) -> list[Row]:
    """The tables, row by row, beside what is published: `published.CELLS`."""
    filled = {}
    for stage in evaluations:
        for of, runs in runs_by_row(stage).items():
            if stage.kind == 'ablation':  # next to the whole objective
                filled[stage.name, 'ablation', 'umurl'] = filled[stage.name, 'probe', FUSED]
            filled.setdefault((stage.name, stage.kind, of), []).extend(
                [runs] if runs else []
            )  # by seed
    names = list(dict.fromkeys(name for name, _, _ in filled))
    rows = []
    for name, kind, of in sorted(
        filled, key=lambda key: (names.index(key[0]), list(TITLES).index(key[1]))
    ):
        seeds, known = filled[name, kind, of], published.get((name, kind, of), (None, None))
        runs = list(chain(*seeds))
        ours = spreads(
            [[run.get('best_accuracy', run['accuracy']) for run in runs] for runs in seeds]
        )
        last = spreads(
            [[run['accuracy'] for run in runs if 'best_accuracy' in run] for runs in seeds]
        )
        difference = ours[0] - known[0] if runs and known[0] is not None else None
        notes = [runs[0].get('note')] if runs else []
        notes += ['settings not published'] * (name.startswith('pku') and kind != 'transfer')
        rows.append(
            Row(
                name,
                TITLES[kind],
                of,
                runs[0].get('gflops') if runs else None,
                *known,
                *ours,
                difference,
                *last,
                len(seeds),
                len(runs),
                ', '.join(filter(None, notes)),
            )
        )
    return rows


def spreads(seeds: list[list[float]]) -> tuple[float | None, float | None, float | None]:
    """Mean, standard deviation over seeds, and over the draws of one seed, of the accuracies of
    each seed's draws.
    """
    if not any(seeds):
        return None, None, None
    means, deviations = zip(*map(mean_std, seeds), strict=True)
    return *mean_std(means), mean_std([deviation**2 for deviation in deviations])[0] ** 0.5


def to_markdown(rows: list[Row], notes: list[str]) -> str:
    """One table per data set, below the notes."""
    sections = ['# Published and reproduced accuracy', *filter(None, notes)]
    for name in dict.fromkeys(row.data_set for row in rows):
        cells = [
            TITLE_CELLS,
            ['---'] * len(TITLE_CELLS),
            *(to_cells(row) for row in rows if row.data_set == name),
        ]
        sections += [
            f'## {" ".join(NAMES[name])}',
            '\n'.join(f'| {" | ".join(line)} |' for line in cells),
        ]
    return '\n\n'.join(section.strip('\n') for section in sections) + '\n'


def to_cells(row: Row) -> list[str]:
    spread = (
        '{0:.2f}' + ' ± {1:.2f}' * (row.seeds > 1) + ' (draws ± {2:.2f})' * (row.runs > row.seeds)
    )
    numbers = (
        ('{:.3g}', row.gflops),
        ('{:.1f}', row.published),
        ('{}', row.source),
        (spread, row.ours_mean, row.ours_std, row.ours_draws_std),
        ('{:+.1f}', row.difference),
        (spread, row.last_epoch_mean, row.last_epoch_std, row.last_epoch_draws_std),
        ('{}', row.note or None),
    )
    return [
        row.evaluation,
        row.of,
        *('–' if first is None else form.format(first, *rest) for form, first, *rest in numbers),
    ]


def write(folder: Path, rows: list[Row], notes: list[str]) -> None:
    """Print the tables, and write TABLES.md and, with all digits, tables.csv."""
    text = to_markdown(rows, notes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'TABLES.md').write_text(text)
    with open(folder / 'tables.csv', 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([Row._fields, *rows])
    print(f'\n{text}\n(in {folder}: TABLES.md and tables.csv)')
