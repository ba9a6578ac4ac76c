"""Scores of predicted labels: accuracy with its interval, by class, and the table of several evaluations."""
import csv
import io

import numpy as np
import torch

from data_gen.arrays import replacing

RESAMPLES = 10_000


def summary(predictions, labels, classes, seed=0):
    """Accuracies in % of predictions (M,) of labels (M,), integer tensors; M > 0.

    accuracy; accuracy_interval [low, high], see `interval`; class_accuracy, a list, None for a class without test
    clips; mean_class_accuracy, over the others; predictions.
    """
    clips, correct = by_class(predictions, labels, classes)
    present = clips > 0
    share = 100 * correct[present] / clips[present]
    class_accuracy = np.full(classes, None, object)
    class_accuracy[present] = share
    return {'accuracy': 100 * correct.sum().item() / len(labels),
            'accuracy_interval': interval(correct.sum().item(), len(labels), seed),
            'mean_class_accuracy': share.mean().item(), 'class_accuracy': class_accuracy.tolist(),
            'predictions': predictions}


def by_class(predictions, labels, classes):
    """Test clips and correct predictions of each class: two arrays (classes,)."""
    predictions, labels = predictions.cpu().numpy(), labels.cpu().numpy()
    return (np.bincount(labels, minlength=classes),
            np.bincount(labels[predictions == labels], minlength=classes))


def interval(correct, clips, seed=0):
    """The 95 % bootstrap interval [low, high] in % of an accuracy: percentiles over resamples of the test clips.

    The number of correct clips in a resample is binomial, so it is drawn as such. The interval knows of the choice of
    test clips alone, and not of the spread over trainings.
    """
    drawn = np.random.default_rng(seed).binomial(clips, correct / clips, RESAMPLES)
    return (100 * np.percentile(drawn, (2.5, 97.5)) / clips).tolist()


def mean_std(values):
    """(mean, standard deviation) of some numbers, with n - 1; 0 for a single one."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.


def write_per_class(path, labels, predictions, classes, class_names=None):
    """Write a CSV with a line per class; `most_confused_with` is the wrong label that its clips get most often."""
    names = class_names or [f'A{label + 1:03d}' for label in range(classes)]  # as the recordings are numbered
    clips, correct = by_class(predictions, labels, classes)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(('class', 'name', 'clips', 'correct', 'accuracy', 'most_confused_with'))
    for label in range(classes):
        wrong = torch.bincount(predictions[(labels == label) & (predictions != label)], minlength=classes)
        accuracy = f'{100 * correct[label] / clips[label]:.2f}' if clips[label] else ''
        table.writerow((label, names[label], clips[label], correct[label], accuracy,
                        names[wrong.argmax()] if wrong.any() else ''))
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def with_interval(score):
    """'72.00 % (95 % interval 71.31 to 72.68)', of a dict of `summary`."""
    low, high = score['accuracy_interval']
    return f'{score["accuracy"]:.2f} % (95 % interval {low:.2f} to {high:.2f})'


def shown(value):
    """A number for a table; a dash where there is none."""
    return '-' if value is None else f'{value:.2f}'


def without_predictions(rows):
    """The rows of a table as results keep them: of the predictions those of the main row are enough."""
    return [{name: value for name, value in row.items() if name != 'predictions'} for row in rows]


def table(rows, columns):
    """Lines of text: a row per evaluation, its modalities, its accuracy with interval, then `columns` {title: key}.

    rows: dicts of 'modalities', what `summary` returns, and the keys of the columns.
    """
    lines = ['{:20}{:>10}{:>20}'.format('modalities', 'accuracy', '95 % interval')
             + ''.join(f'{title:>12}' for title in columns)]
    for row in rows:
        low, high = row['accuracy_interval']
        lines.append(f'{row["modalities"]:20}{row["accuracy"]:10.2f}{f"{low:.2f} to {high:.2f}":>20}'
                     + ''.join(f'{shown(row[key]):>12}' for key in columns.values()))
    return '\n'.join(lines)
