"""The linear probe: linear heads trained on fixed features, one for each subset of the modalities
and learning rate.
"""

from collections.abc import Callable, Iterable
from itertools import product

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from feeder.feeders import generator_at
from tools import scores
from tools.common.cli import InputError, progress
from tools.evaluation.feature_files import Features
from tools.evaluation.late_fusion import FusionRow, Subset, row_facts
from tools.evaluation.recipes import Recipe
from tools.results import Origin
from tools.schedule import adjust_learning_rate

COLUMNS = {
    'top-5': 'top5_accuracy',
    'per class': 'mean_class_accuracy',
    'best seen': 'best_accuracy',
    'loss': 'training_loss',
}


def linear_head(num_features: int, num_classes: int, seed: int) -> nn.Linear:
    """Weights N(0, 0.01), bias 0, as in the official code."""
    head = nn.Linear(num_features, num_classes)
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    return head


def train_probe(
    features: dict[Subset, Features],
    rows: list[FusionRow],
    num_classes: int,
    recipe: Recipe,
    factors: list[float],
    seed: int,
    origin: Origin,
    draw_again: Callable | None = None,
) -> list[dict]:
    """Train a head for each subset and learning rate on the same batches, and score the rows of the
    table.

    factors: what the learning rates are multiplied by in each epoch. Returns a dict of scores for
    each row and learning rate, row by row. A row of several subsets is their late fusion.
    draw_again(epoch) gives the training features {subset: (N, 2H)} of a further epoch, from 1, if
    they change. InputError if a loss is not finite.
    """
    first = next(iter(features.values()))
    labels, num_epochs, lrs = first.val_labels, len(factors), recipe.lr
    heads = {
        (subset, lr): linear_head(values.train.shape[1], num_classes, seed).to(labels.device)
        for subset, values in features.items()
        for lr in lrs
    }
    optimizers = {
        key: torch.optim.SGD(
            head.parameters(), key[1], recipe.momentum, weight_decay=recipe.weight_decay
        )
        for key, head in heads.items()
    }
    eval_history = {(row.name, lr): {} for row, lr in product(rows, lrs)}
    for epoch in progress(range(1, num_epochs + 1), 'probe', unit='epoch'):
        order = torch.randperm(len(first.train), generator=generator_at(seed, epoch - 1)).to(
            labels.device
        )
        if draw_again and epoch > 1:
            features = {
                subset: features[subset]._replace(train=values)
                for subset, values in draw_again(epoch - 1).items()
            }
        losses = {}
        for (subset, lr), head in heads.items():
            optimizer = optimizers[subset, lr]
            adjust_learning_rate(optimizer, lr * factors[epoch - 1])
            train, train_labels, *_ = features[subset]
            batches = (
                (train[batch], train_labels[batch]) for batch in order.split(recipe.batch_size)
            )
            losses[subset, lr] = train_one_epoch(head, optimizer, batches)
        if epoch % scores.EVALUATE_EVERY == 0 or epoch == num_epochs:
            if diverged := [lr for (_, lr), loss in losses.items() if not loss.isfinite()]:
                raise InputError(
                    f'--lr {diverged[0]:g}: the loss is not finite after epoch {epoch}; use a '
                    'smaller one'
                )
            with torch.inference_mode():
                logits = {
                    (subset, lr): head(features[subset].val) for (subset, lr), head in heads.items()
                }
            fused = {
                (row.name, lr): sum(logits[subset, lr] for subset in row.subsets)
                for row, lr in product(rows, lrs)
            }
            for key, values in fused.items():
                eval_history[key][epoch] = scores.accuracy(values, labels)

    return [
        {
            'modalities': row.name,
            'lr': lr,
            'training_loss': losses[row.subsets[0], lr].item() if len(row.subsets) == 1 else None,
            **row_facts(row, origin),
            **scores.classification_summary(
                fused[row.name, lr], labels, num_classes, origin.performers
            ),
            **scores.best_seen(eval_history[row.name, lr]),
        }
        for row, lr in product(rows, lrs)
    ]


def train_one_epoch(
    model: Callable,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple],
    loss_scaler: torch.amp.GradScaler | None = None,
) -> torch.Tensor:
    """Train on batches of (inputs, labels), with model(inputs) as logits; returns the mean loss, on
    the device.
    """
    loss_scaler = loss_scaler or torch.amp.GradScaler(enabled=False)
    total, clips = 0.0, 0
    for inputs, labels in batches:
        loss = cross_entropy(model(inputs).float(), labels)
        optimizer.zero_grad()
        loss_scaler.scale(loss).backward()
        loss_scaler.step(optimizer)
        loss_scaler.update()
        total, clips = total + loss.detach() * len(labels), clips + len(labels)
    return total / clips


def main_result(results: list[dict], main: str) -> dict:
    """The result of the row named `main` and the first learning rate, as a results file holds it.

    results: of `train_probe`. by_lr has the result of each learning rate without predictions, and
    its table if there are several rows; the main result has the first of these tables.
    """
    main_rows, by_lr = [row for row in results if row['modalities'] == main], []
    for row in scores.without_predictions(main_rows):
        table = scores.without_predictions(other for other in results if other['lr'] == row['lr'])
        by_lr.append(row | ({'table': table} if len(table) > 1 else {}))
    return main_rows[0] | by_lr[0] | {'by_lr': by_lr}


def report(results: list[dict], first: dict) -> str:
    """Lines of text: the main result `first`, and tables if there are several learning rates or
    rows.
    """
    lines = [
        f'top-1 accuracy, last epoch:  {scores.with_interval(first)}',
        f'top-5 accuracy, last epoch:  {first["top5_accuracy"]:.2f} %',
        f'mean per class, last epoch:  {first["mean_class_accuracy"]:.2f} %',
        f'calibration, last epoch:     error {first["calibration_error"]:.2f} % (15 bins), '
        'negative '
        f'log-likelihood {first["nll"]:.3f}',
        f'top-1 accuracy, best seen:   {first["best_accuracy"]:.2f} % (epoch '
        f'{first["best_epoch"]}; chosen on the '
        'test split, which is how the official code reports)',
    ]
    if 'table' in first:
        for row in first['by_lr']:
            lines += [f'\nlr {row["lr"]:g}', scores.table(row['table'], COLUMNS)]
    elif len(results) > 1:
        lines.append(
            scores.table([row | {'modalities': f'lr {row["lr"]:g}'} for row in results], COLUMNS)
        )
    if len(first['by_lr']) > 1:
        lines.append(
            f'(The lines above the table are for lr {first["lr"]:g}, the first one given. Choosing '
            'a learning '
            'rate by these numbers means choosing on the test split.)'
        )
    return '\n'.join(lines)
