"""The paper's tables out of results files: published value, ours, difference; as Markdown and as CSV."""
import csv
import io
from typing import NamedTuple

from data_gen.arrays import replacing
from tools import published
from tools.scores import mean_std
from tools.stages import ABLATIONS, FUSED, NAMES, Evaluation

TITLES = {'probe': 'linear probe', 'retrieval': 'k-NN retrieval', 'semi': 'semi-supervised', 'finetune': 'fine-tuning',
          'transfer': 'transfer, fine-tuning', 'ablation': 'objective, linear probe'}
HEAD = ('evaluation', 'of', 'published', 'ours', 'difference', 'last epoch')
NONE = '–'
NOTES = f"""\
Top-1 accuracy in %. Published: UmURL, ACM MM 2023, arXiv 2311.03106; {NONE}: none is known, or not done here.
Ours is the mean ± standard deviation (n - 1) over all runs: the seeds and, of fine-tuning, its repeats. Where labels
were trained on, *ours* is the best of looks at the test part every 5 epochs, which is how the release reports, and the
difference is to that; *last epoch* chooses nothing on the test part. Semi-supervised, fine-tuning, transfer and
objective are of {FUSED}.
"""


class Row(NamedTuple):
    """A line of the tables. `best` and `last` are the accuracies of all runs, as published and of the last epoch."""
    name: str
    kind: str
    of: str
    published: float | None
    best: list
    last: list

    @property
    def difference(self):
        return mean_std(self.best)[0] - self.published if self.best and self.published is not None else None


def rows(stages, compare=True):
    """The Rows that evaluations among the stages fill, by data set and evaluation; compare: with what is published."""
    runs = {}
    for stage in stages:
        if isinstance(stage, Evaluation):
            numbers = stage.numbers()
            for row in stage.rows:
                here = runs.setdefault((stage.name, stage.kind, row), [])
                here += [(best, last) for of, best, last in numbers if of == row]
    for name, kind, row in list(runs):
        if (kind, row) == ('ablation', ABLATIONS[0]):  # beside which the whole objective belongs
            runs[name, kind, 'umurl'] = runs[name, 'probe', FUSED]
    names = list(dict.fromkeys(name for name, _, _ in runs))
    order = sorted(runs, key=lambda key: (names.index(key[0]), list(TITLES).index(key[1])))
    return [Row(*key, published.accuracy(*key) if compare else None, [best for best, _ in runs[key]],
                [last for _, last in runs[key] if last is not None]) for key in order]


def markdown(rows, notes):
    """The tables, one for each data set, below the notes."""
    parts = ['# Published and reproduced accuracy', *notes]
    for name in dict.fromkeys(row.name for row in rows):
        cells = [HEAD, *(texts(row) for row in rows if row.name == name)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + ' |'
                 for line in cells]
        lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
        parts += [f'## {" ".join(NAMES[name])}', '\n'.join(lines)]
    return '\n\n'.join(part.strip('\n') for part in parts) + '\n'


def texts(row):
    """The cells of a Row."""
    difference = NONE if row.difference is None else f'{row.difference:+.1f}'
    known = NONE if row.published is None else f'{row.published:.1f}'
    return TITLES[row.kind], row.of, known, spread(row.best), difference, spread(row.last)


def spread(values):
    """'84.21', '84.21 ± 0.13' of several values, a dash of none."""
    if not values:
        return NONE
    mean, std = mean_std(values)
    return f'{mean:.2f}' + (f' ± {std:.2f}' if len(values) > 1 else '')


def write_csv(path, rows):
    """Write a line for each Row, with all digits."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator='\n')
    table.writerow(('data_set', 'evaluation', 'of', 'published', 'ours_mean', 'ours_std', 'difference',
                    'last_epoch_mean', 'last_epoch_std', 'runs'))
    for row in rows:
        best, last = (mean_std(values) if values else (None, None) for values in (row.best, row.last))
        table.writerow((row.name, TITLES[row.kind], row.of, row.published, *best, row.difference, *last, len(row.best)))
    with replacing(path) as file:
        file.write(text.getvalue().encode())
