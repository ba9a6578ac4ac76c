"""Scores of predicted labels: accuracy with its interval, accuracy by class, and the tables printed
on the screen.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from tools.common.files import replacing

RESAMPLES = 2000  # of the bootstrap
MANY_PERFORMERS = 20  # the interval of fewer is too narrow
ECE_BINS = 15
# Epochs. The official code reports the best of these evaluations on the test split.
EVALUATE_EVERY = 5


def accuracy_summary(
    predictions: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
    performers: list | None = None,
) -> dict:
    """Accuracies in % of predictions (M,) for labels (M,), M > 0, with 95 % intervals [low, high].

    Keys: accuracy; accuracy_interval, by clip; performer_interval, by performer, None if
    `performers` (M,) are unknown or one; num_performers, of these; class_accuracy, a list with None for classes without test clips;
    mean_class_accuracy, over the others; predictions.
    """
    right = (predictions == labels).cpu().numpy()
    correct = int(right.sum())
    by_class = [None] * num_classes
    for label, line in enumerate(confusion_matrix(predictions, labels, num_classes)):
        if line.any():
            by_class[label] = 100 * line[label].item() / line.sum().item()
    return {
        'accuracy': 100 * correct / len(labels),
        'accuracy_interval': interval(correct, len(labels)),
        'performer_interval': bootstrap_interval(right, performers),
        'mean_class_accuracy': float(np.mean([share for share in by_class if share is not None])),
        'class_accuracy': by_class,
        'num_performers': len(set(performers or ())),
        'predictions': predictions,
    }


def classification_summary(
    logits: torch.Tensor, labels: torch.Tensor, num_classes: int, performers: list | None = None
) -> dict:
    """`accuracy_summary` of logits (M, C), and the keys top5_accuracy in %, calibration_error in %
    and nll.
    """
    top5 = logits.topk(min(5, logits.shape[1]), 1).indices
    top5_accuracy = 100 * (top5 == labels[:, None]).any(1).sum().item() / len(labels)
    return accuracy_summary(top5[:, 0], labels, num_classes, performers) | {
        'top5_accuracy': top5_accuracy,
        'calibration_error': calibration_error(logits, labels),
        'nll': cross_entropy(logits.float(), labels).item(),
    }


def calibration_error(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Expected calibration error in % of logits (M, C): 15 equal bins of confidence (Guo et al.,
    ICML 2017).
    """
    confidence, predictions = logits.double().softmax(1).max(1)
    bins = (confidence * ECE_BINS).ceil().long().clamp(1, ECE_BINS) - 1  # each with its upper end
    gaps = bins.bincount(confidence - (predictions == labels).double(), ECE_BINS)
    return 100 * gaps.abs().sum().item() / len(labels)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Top-1 accuracy in % of logits (M, C)."""
    return 100 * (logits.topk(1, 1).indices[:, 0] == labels).sum().item() / len(labels)


def best_seen(eval_history: dict[int, float]) -> dict:
    """The best evaluation in {epoch: accuracy}; the first one if several are equal."""
    epoch = max(eval_history, key=eval_history.get)
    return {'best_accuracy': eval_history[epoch], 'best_epoch': epoch}


def confusion_matrix(
    predictions: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> np.ndarray:
    """How many clips of each class (row) get each label (column): (num_classes, num_classes)."""
    pairs = (labels * num_classes + predictions).cpu().numpy()
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def interval(correct: int, num_clips: int) -> list[float]:
    """The exact (Clopper-Pearson) 95 % interval [low, high] in % of an accuracy.

    It treats the clips as independent, and does not cover the spread over trainings.
    """
    from scipy.special import betaincinv

    wrong = num_clips - correct
    low = betaincinv(correct, wrong + 1, 0.025) if correct else 0
    high = betaincinv(correct + 1, wrong, 0.975) if wrong else 1
    return [100 * float(low), 100 * float(high)]


def bootstrap_interval(values: np.ndarray, performers: list | None) -> list[float] | None:
    """The 95 % interval [low, high] in % of the mean of values (M,), resampling performers (M,)
    with all their clips.

    The seed is fixed. None if the performers are unknown or there is only one.
    """
    names, clip_performer = np.unique(np.array(performers or [], str), return_inverse=True)
    if len(names) < 2:
        return None
    sums, clips = np.bincount(clip_performer, values), np.bincount(clip_performer)
    drawn = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    return np.percentile(100 * sums[drawn].sum(1) / clips[drawn].sum(1), (2.5, 97.5)).tolist()


def mean_std(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); the latter is 0 for a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def write_per_class(
    path: Path,
    labels: torch.Tensor,
    predictions: torch.Tensor,
    num_classes: int,
    class_names: list[str] | None = None,
) -> None:
    """Write a CSV with a line per class; `most_confused_with` is the wrong label its clips get most
    often.
    """
    # Without names, as NTU RGB+D numbers them.
    names = class_names or [f'A{label + 1:03d}' for label in range(num_classes)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(('class', 'name', 'clips', 'correct', 'accuracy', 'most_confused_with'))
    for label, line in enumerate(confusion_matrix(predictions, labels, num_classes)):
        correct = line[label]
        wrong = np.where(np.arange(num_classes) == label, 0, line)
        percent = f'{100 * correct / line.sum():.2f}' if line.any() else ''
        confused_with = names[wrong.argmax()] if wrong.any() else ''
        writer.writerow((label, names[label], line.sum(), correct, percent, confused_with))
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def with_interval(row: dict) -> str:
    """'72.00 % (95 % interval 71.31 to 72.68 by clip, 65.02 to 78.11 by 40 performers)'."""
    low, high = row['accuracy_interval']
    text = f'{row["accuracy"]:.2f} % (95 % interval {low:.2f} to {high:.2f} by clip'
    if row['performer_interval'] is None:
        known = row['num_performers'] == 1
        why = 'the test clips are of one performer' if known else 'the performers are not known'
        return f'{text} alone: {why})'
    low, high = row['performer_interval']
    return f'{text}, {low:.2f} to {high:.2f} {by_performers(row["num_performers"])})'


def by_performers(count: int) -> str:
    """'by 7 performers, which are few'."""
    few = '' if count >= MANY_PERFORMERS else ', which are few'
    return f'by {count} performers{few}'


def percent_or_dash(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def without_predictions(rows: Iterable[dict]) -> list[dict]:
    """The rows of a table for a results file, which holds the predictions of the main row only."""
    return [{name: value for name, value in row.items() if name != 'predictions'} for row in rows]


def table(rows: list[dict], columns: dict[str, str]) -> str:
    """Lines of text: modalities, accuracy with interval, `columns` {title: key}, GFLOPs if known,
    and a note.
    """
    with_gflops = any(row.get('gflops') for row in rows)
    titles = list(columns)
    if with_gflops:
        titles.append('GFLOPs')
    width = max(20, *(len(row['modalities']) for row in rows))
    head = f'{"modalities":{width}}{"accuracy":>10}{"95 % by clip":>20}'
    lines = [head + ''.join(f'{title:>12}' for title in titles)]
    for row in rows:
        low, high = row['accuracy_interval']
        cells = [percent_or_dash(row[key]) for key in columns.values()]
        if with_gflops:
            cells.append(f'{row["gflops"]:.3g}')
        interval_cell = f'{low:.2f} to {high:.2f}'
        line = f'{row["modalities"]:{width}}{row["accuracy"]:10.2f}{interval_cell:>20}'
        line += ''.join(f'{cell:>12}' for cell in cells)
        lines.append(f'{line}  {row.get("note", "")}'.rstrip())
    return '\n'.join(lines)
