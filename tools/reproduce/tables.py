"""Results files -> the paper's tables: published accuracy, ours, and the difference, as Markdown and CSV."""
import csv
from collections import namedtuple
from collections.abc import Iterable
from pathlib import Path

from feeder.modalities import MODALITIES
from tools.evaluation.late_fusion import fusion_rows
from tools.reproduce import published
from tools.reproduce.stages import NAMES, Stage
from tools.scores import mean_std

FUSED = '+'.join(MODALITIES)
TITLES = {'probe': 'linear probe', 'retrieval': 'k-NN retrieval', 'semi': 'semi-supervised', 'finetune': 'fine-tuning',
          'transfer': 'transfer, fine-tuning', 'ablation': 'objective, linear probe'}
NOTES = f"""\
Top-1 accuracy in %. Published: UmURL, ACM MM 2023, arXiv 2311.03106; –: not published, or not measured here.
Ours is the mean ± standard deviation (n - 1) over all runs: the seeds and, for fine-tuning, its repeats. With training,
*ours* is the best accuracy on the test clips, evaluated every 5 epochs, as the official code reports it; *last epoch*
selects nothing on the test clips. Semi-supervised, fine-tuning, transfer and objective use {FUSED}.
"""


# A row of the tables: accuracies in %, mean and standard deviation over the runs; None where nothing was measured.
Row = namedtuple('Row', 'data_set evaluation of published ours_mean ours_std difference last_epoch_mean last_epoch_std '
                        'runs')


def runs_by_row(stage: Stage) -> dict[str, list[dict]]:
    """The results of an evaluation by the row they belong to. Rows that nothing was measured for are empty."""
    record = stage.record()
    if stage.kind in ('probe', 'retrieval'):
        rows = {row.name: [] for row in fusion_rows(MODALITIES, all_modalities=True)}
        return rows | {run['modalities']: [run] for run in record.get('table', [])}
    runs = [run for run in record.get('runs', [record] * bool(record)) if run['modalities'] == FUSED]
    if stage.kind == 'semi':
        shares = dict.fromkeys(run['data_ratio'] for run in runs) or (.01, .05, .1, .2)
        return {f'{100 * share:g} % of the labels': [run for run in runs if run['data_ratio'] == share]
                for share in shares}
    return {stage.row or FUSED: runs}


def fill(evaluations: Iterable[Stage], compare: bool = True) -> list[Row]:
    """The tables, row by row. compare: with the published accuracies."""
    filled = {}
    for stage in evaluations:
        for of, runs in runs_by_row(stage).items():
            if stage.kind == 'ablation':  # next to the whole objective
                filled[stage.name, 'ablation', 'umurl'] = filled[stage.name, 'probe', FUSED]
            filled.setdefault((stage.name, stage.kind, of), []).extend(runs)
    names = list(dict.fromkeys(name for name, _, _ in filled))
    rows = []
    for name, kind, of in sorted(filled, key=lambda key: (names.index(key[0]), list(TITLES).index(key[1]))):
        runs, known = filled[name, kind, of], published.ACCURACY.get((name, kind, of)) if compare else None
        ours = mean_std([run.get('best_accuracy', run['accuracy']) for run in runs]) if runs else (None, None)
        last = mean_std([run['accuracy'] for run in runs]) if runs and 'best_accuracy' in runs[0] else (None, None)
        difference = ours[0] - known if runs and known is not None else None
        rows.append(Row(name, TITLES[kind], of, known, *ours, difference, *last, len(runs)))
    return rows


def to_markdown(rows: list[Row], notes: list[str]) -> str:
    """One table per data set, below the notes."""
    sections = ['# Published and reproduced accuracy', *filter(None, notes)]
    for name in dict.fromkeys(row.data_set for row in rows):
        cells = [to_cells(row) for row in rows if row.data_set == name]
        cells.insert(0, ['evaluation', 'of', 'published', 'ours', 'difference', 'last epoch'])
        cells.insert(1, ['---'] * len(cells[0]))
        sections += [f'## {" ".join(NAMES[name])}', '\n'.join(f'| {" | ".join(line)} |' for line in cells)]
    return '\n\n'.join(section.strip('\n') for section in sections) + '\n'


def to_cells(row: Row) -> list[str]:
    spread = '{:.2f} ± {:.2f}' if row.runs > 1 else '{:.2f}'
    numbers = (('{:.1f}', row.published), (spread, row.ours_mean, row.ours_std), ('{:+.1f}', row.difference),
               (spread, row.last_epoch_mean, row.last_epoch_std))
    return [row.evaluation, row.of, *('–' if first is None else form.format(first, *rest)
                                      for form, first, *rest in numbers)]


def write(folder: Path, rows: list[Row], notes: list[str]) -> None:
    """Print the tables, and write TABLES.md and, with all digits, tables.csv."""
    text = to_markdown(rows, notes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'TABLES.md').write_text(text)
    with open(folder / 'tables.csv', 'w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([Row._fields, *rows])
    print(f'\n{text}\n(in {folder}: TABLES.md and tables.csv)')
