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
from tools.evaluation.features import Inputs
from tools.evaluation.finetune import FineTuning
from tools.evaluation.late_fusion import FusionRow, late_fusion

DRAWS = ('random', 'balanced')
COLUMNS = {
    'top-1': 'accuracy',
    'top-5': 'top5_accuracy',
    'per class': 'mean_class_accuracy',
    'best seen': 'best_accuracy',
}
Draws = dict[tuple[float, int], torch.Tensor]  # (ratio, repeat): the clips that keep their label
Runs = dict[tuple[str, float, int], dict]  # (name of the row, ratio, repeat): its scores
EXTENDABLE = ('data_ratio', 'repeats')  # a results file can be extended by more of these


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
    generator = generator_at(seed, ratio, repeat, 'labels')
    order = torch.randperm(len(labels), generator=generator)
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
    finished = {}
    same = without_extent(content.get('config', {})) == without_extent(configuration)
    if same:
        finished = {key: earlier[key] for key in wanted if key in earlier}
    if finished:
        rest = 'nothing left to train' if len(finished) == len(wanted) else 'resuming'
        print(
            f'note: {path} has {len(finished)} of {len(wanted)} runs: {rest}',
            file=sys.stderr,
        )
    if earlier.keys() - finished.keys():
        reason = 'was made with other settings, data or checkpoint'
        if same:
            reason = 'has other shares or more repeats'
        print(f'note: {path} {reason}; it was moved to {move_aside(path)}', file=sys.stderr)
    return finished


def without_extent(configuration: dict) -> dict:
    return {name: value for name, value in configuration.items() if name not in EXTENDABLE}


def run_all(
    finetune_once: Callable[..., FineTuning],
    inputs: Inputs,
    draws: Draws,
    rows: list[FusionRow],
    finished: Runs,
    save: Callable[[list[dict]], None],
) -> list[dict]:
    """Fine-tune for every draw and row that is not finished; returns all runs in order, finished
    ones included.

    finetune_once(modalities=…, clips=…, repeat=…) trains one model. After each run, save(runs)
    writes the results so far.
    """
    runs = dict(finished)
    labels, num_classes = inputs.labels, inputs.num_classes
    smallest = min(map(len, draws.values()))
    if smallest < num_classes:
        print(
            f'note: the smallest draw has {smallest} clips for {num_classes} classes',
            file=sys.stderr,
        )
    if finished:
        save(list(runs.values()))  # the file they come from may have been moved aside
    for (ratio, repeat), clips in progress(draws.items(), 'fine-tuning', unit='draw'):
        # The rows of a draw share models.
        train = cache(partial(finetune_once, clips=clips, repeat=repeat))
        for row in rows:
            if (row.name, ratio, repeat) in runs:
                continue
            models = [train(modalities=modalities) for modalities in row.subsets]
            runs[row.name, ratio, repeat] = {
                'modalities': row.name,
                'data_ratio': ratio,
                'repeat': repeat,
                'clips': len(clips),
                **evaluate(models, labels, num_classes, inputs.origin.performers),
            }
            save(list(runs.values()))
    return [runs[row.name, ratio, repeat] for ratio, repeat in draws for row in rows]


def evaluate(
    models: list[FineTuning], labels: torch.Tensor, num_classes: int, performers: list | None = None
) -> dict:
    """The scores of one model, or of the late fusion of several; labels, performers (M,): of the
    val split.
    """
    logits = {
        epoch: late_fusion(model.eval_history[epoch] for model in models)
        for epoch in models[0].eval_history
    }
    accuracies = {epoch: scores.accuracy(values, labels) for epoch, values in logits.items()}
    last = logits[max(logits)]
    return {
        'training_loss': models[0].training_loss if len(models) == 1 else None,
        **scores.classification_summary(last, labels, num_classes, performers),
        **scores.best_seen(accuracies),
    }


def summarize(runs: list[dict]) -> list[dict]:
    """A row for each share of the labels and each row of modalities: mean and standard deviation
    over the repeats.
    """
    groups = {}
    for run in runs:
        groups.setdefault((run['data_ratio'], run['modalities']), []).append(run)
    return [summarize_repeats(group) for group in groups.values()]


def summarize_repeats(runs: list[dict]) -> dict:
    """A row of the summary: the runs of one share and one row of modalities."""
    first = runs[0]
    row = {name: first[name] for name in ('modalities', 'data_ratio', 'clips')}
    row['repeats'] = len(runs)
    for name in COLUMNS.values():
        row[name], row[f'{name}_std'] = scores.mean_std([run[name] for run in runs])
    if len(runs) == 1:
        alone = ('accuracy_interval', 'best_epoch', 'training_loss')
        row |= {name: first[name] for name in alone}
    return row


def main_result(runs: list[dict], main: str) -> dict:
    """For a results file: the row named `main` with the largest share, and everything else as
    `runs` and `table`.
    """
    table = summarize(runs)
    main_rows = [row for row in table if row['modalities'] == main]
    result = dict(max(main_rows, key=lambda row: row['data_ratio']))
    if result['repeats'] == 1:
        (run,) = (
            run
            for run in runs
            if run['modalities'] == main and run['data_ratio'] == result['data_ratio']
        )
        # The predictions are a list if they come from a results file.
        result |= run | {'predictions': torch.as_tensor(run['predictions'])}
    return {**result, 'runs': runs, 'table': table}


def report(runs: list[dict]) -> str:
    """Lines of text, one for each row of `summarize`."""
    titles = ''.join(f'{title:>16}' for title in COLUMNS)
    rows = summarize(runs)
    width = max(20, *(len(row['modalities']) for row in rows))
    lines = [f'{"labels":>8}{"clips":>8}  {"modalities":{width}}{titles}']
    for row in rows:
        line = f'{100 * row["data_ratio"]:6g} %{row["clips"]:8}  {row["modalities"]:{width}}'
        for name in COLUMNS.values():
            number = f'{row[name]:.2f}'
            if row['repeats'] > 1:
                number += f' ± {row[f"{name}_std"]:5.2f}'
            line += f'{number:>16}'
        lines.append(line)
    lines.append(
        '(in %, last epoch; ±: over draws and repeats, not over pre-training seeds; best seen: the '
        'best top-1 of an evaluation every 5 epochs, on the test split)'
    )
    return '\n'.join(lines)
