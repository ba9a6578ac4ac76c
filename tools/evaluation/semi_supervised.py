"""Fine-tuning on drawn shares of the labels: the draws, all their runs, and the mean and spread
over repeats.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

from feeder.feeders import generator_at
from tools import results, scores
from tools.common.cli import progress
from tools.common.files import move_aside
from tools.evaluation.finetune import FineTuning
from tools.evaluation.late_fusion import FusionRow

DRAWS = ('random', 'balanced')
COLUMNS = {
    'top-1': 'accuracy',
    'top-5': 'top5_accuracy',
    'per class': 'mean_class_accuracy',
    'best seen': 'best_accuracy',
}
Draws = dict[
    tuple[float, int], torch.Tensor
]  # {(ratio, repeat): indices of the clips that keep their label}
Runs = dict[tuple[str, float, int], dict]  # {(name of the row, ratio, repeat): its scores}
EXTENDABLE = {
    'data_ratio': None,
    'repeats': None,
}  # a results file can be extended by more of these


def draw_labels(
    labels: torch.Tensor, ratio: float, draw: str | None, seed: int, repeat: int
) -> torch.Tensor:
    """Choose the clips that keep their label: ascending indices into the training labels (N,), all
    on the CPU.

    random: int(N * ratio) clips, at least one, as CMD draws them
    (feeder_downstream_semi_supervised.py). balanced: round(ratio * N / classes) clips of each class
    that occurs, at least one, or all clips of a smaller class. The same arguments always give the
    same draw.
    """
    order = torch.randperm(len(labels), generator=generator_at(seed, round(ratio * 1e9), repeat))
    if draw == 'balanced':
        present = labels.unique()
        per_class = max(1, round(ratio * len(labels) / len(present)))
        drawn = torch.cat([order[labels[order] == label][:per_class] for label in present])
    else:
        drawn = order[: max(1, int(len(labels) * ratio))]
    return drawn.sort().values


def load_finished_runs(
    path: Path | None, configuration: dict, draws: Draws, rows: list[FusionRow]
) -> Runs:
    """The runs for these draws and rows that a results file already holds, made by the same
    configuration.

    Other shares or another number of repeats are fine. The file is moved aside if runs in it would
    be lost.
    """
    content = results.read(path)
    if content.get('task') != configuration['task']:
        return {}
    earlier = {
        (run['modalities'], run['data_ratio'], run['repeat']): run for run in content['runs']
    }
    wanted = [(row.name, *draw) for draw in draws for row in rows]
    same = content.get('config', {}) | EXTENDABLE == configuration | EXTENDABLE
    finished = {key: earlier[key] for key in wanted if key in earlier} if same else {}
    if finished:
        print(
            f'note: {path} has {len(finished)} of {len(wanted)} runs: '
            f'{"nothing left to train" if len(finished) == len(wanted) else "resuming"}',
            file=sys.stderr,
        )
    if earlier.keys() - finished.keys():
        reason = (
            'has other shares or more repeats'
            if same
            else 'was made with other settings, data or checkpoint'
        )
        print(f'note: {path} {reason}; it was moved to {move_aside(path)}', file=sys.stderr)
    return finished


def run_all(
    finetune_once: Callable[..., FineTuning],
    draws: Draws,
    rows: list[FusionRow],
    finished: Runs,
    labels: torch.Tensor,
    num_classes: int,
    save: Callable[[list[dict]], None],
    performers: list | None = None,
) -> list[dict]:
    """Fine-tune for every draw and row that is not finished; returns all runs in order, finished
    ones included.

    finetune_once(modalities=…, clips=…, repeat=…) trains one model; labels, performers (M,): of the
    val split. After each run, save(runs) writes the results so far.
    """
    runs = dict(finished)
    if (smallest := min(map(len, draws.values()))) < num_classes:
        print(
            f'note: the smallest draw has {smallest} clips for {num_classes} classes',
            file=sys.stderr,
        )
    if finished:
        save(list(runs.values()))  # the file they come from may have been moved aside
    for (ratio, repeat), clips in progress(draws.items(), 'fine-tuning', unit='draw'):
        train = cache(
            partial(finetune_once, clips=clips, repeat=repeat)
        )  # the rows of a draw share models
        for row in [row for row in rows if (row.name, ratio, repeat) not in runs]:
            models = [train(modalities=modalities) for modalities in row.subsets]
            runs[row.name, ratio, repeat] = {
                'modalities': row.name,
                'data_ratio': ratio,
                'repeat': repeat,
                'clips': len(clips),
                **evaluate(models, labels, num_classes, performers),
            }
            save(list(runs.values()))
    return [runs[row.name, ratio, repeat] for ratio, repeat in draws for row in rows]


def evaluate(
    models: list[FineTuning], labels: torch.Tensor, num_classes: int, performers: list | None = None
) -> dict:
    """The scores of one model, or of the late fusion of several."""
    epochs = list(models[0].eval_history)
    logits = {epoch: sum(model.eval_history[epoch] for model in models) for epoch in epochs}
    return {
        'training_loss': models[0].training_loss if len(models) == 1 else None,
        **scores.classification_summary(logits[epochs[-1]], labels, num_classes, performers),
        **scores.best_seen({epoch: scores.accuracy(logits[epoch], labels) for epoch in epochs}),
    }


def summarize(runs: list[dict]) -> list[dict]:
    """A row for each share of the labels and each row of modalities: mean and standard deviation
    over the repeats.
    """
    groups, summary = {}, []
    for run in runs:
        groups.setdefault((run['data_ratio'], run['modalities']), []).append(run)
    for group in groups.values():
        row = {name: group[0][name] for name in ('modalities', 'data_ratio', 'clips')} | {
            'repeats': len(group)
        }
        for name in COLUMNS.values():
            row[name], row[f'{name}_std'] = scores.mean_std([run[name] for run in group])
        if len(group) == 1:
            row |= {
                name: group[0][name]
                for name in ('accuracy_interval', 'best_epoch', 'training_loss')
            }
        summary.append(row)
    return summary


def main_result(runs: list[dict], main: str) -> dict:
    """For a results file: the row named `main` with the largest share, and everything else as
    `runs` and `table`.
    """
    table = summarize(runs)
    result = dict(
        max((row for row in table if row['modalities'] == main), key=lambda row: row['data_ratio'])
    )
    if result['repeats'] == 1:
        result |= next(
            run
            for run in runs
            if run['modalities'] == main and run['data_ratio'] == result['data_ratio']
        )
        result['predictions'] = torch.as_tensor(
            result['predictions']
        )  # a list if it comes from a results file
    return {**result, 'runs': runs, 'table': table}


def report(runs: list[dict]) -> str:
    """Lines of text, one for each row of `summarize`."""
    lines = [
        f'{"labels":>8}{"clips":>8}  {"modalities":20}'
        + ''.join(f'{title:>16}' for title in COLUMNS)
    ]
    for row in summarize(runs):
        numbers = [
            f'{row[name]:.2f}' + (f' ± {row[f"{name}_std"]:5.2f}' if row['repeats'] > 1 else '')
            for name in COLUMNS.values()
        ]
        lines.append(
            f'{100 * row["data_ratio"]:6g} %{row["clips"]:8}  {row["modalities"]:20}'
            + ''.join(f'{number:>16}' for number in numbers)
        )
    lines.append(
        '(in %, last epoch; ±: over draws and repeats, not over pre-training seeds; best seen: the '
        'best top-1 '
        'of an evaluation every 5 epochs, on the test split)'
    )
    return '\n'.join(lines)
