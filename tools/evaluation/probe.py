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
from tools.evaluation.features import FrozenFeatures
from tools.evaluation.late_fusion import FusionRow, Subset, late_fusion, row_facts
from tools.evaluation.recipes import Recipe
from tools.schedule import adjust_learning_rate

COLUMNS = {
    'top-5': 'top5_accuracy',
    'per class': 'mean_class_accuracy',
    'best seen': 'best_accuracy',
    'loss': 'training_loss',
}


def linear_head(num_features: int, num_classes: int, generator: torch.Generator) -> nn.Linear:
    """Weights N(0, 0.01), bias 0, as in the official code."""
    head = nn.Linear(num_features, num_classes)
    nn.init.normal_(head.weight, std=0.01, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def train_probe(
    frozen: FrozenFeatures, rows: list[FusionRow], recipe: Recipe, seed: int
) -> list[dict]:
    """Train a head for each subset and learning rate on the same batches, and score the rows of the
    table.

    Returns a dict of scores for each row and learning rate, row by row. A row of several subsets is
    their late fusion. InputError if a loss is not finite.
    """
    features, labels, num_classes = frozen.by_subset, frozen.labels, frozen.num_classes
    keys = list(product(features, recipe.lr))
    heads, optimizers = {}, {}
    for subset, lr in keys:
        width = features[subset].train.shape[1]
        head = linear_head(width, num_classes, generator_at(seed, 'head')).to(labels.device)
        heads[subset, lr] = head
        optimizers[subset, lr] = torch.optim.SGD(
            head.parameters(), lr, recipe.momentum, weight_decay=recipe.weight_decay
        )
    eval_history = {(row.name, lr): {} for row, lr in product(rows, recipe.lr)}
    factors = progress(recipe.factors(), 'probe', unit='epoch')
    for epoch, factor in enumerate(factors, 1):
        generator = generator_at(seed, epoch - 1, 'order')
        order = torch.randperm(len(frozen.train_labels), generator=generator).to(labels.device)
        batches = order.split(recipe.batch_size)
        if frozen.draw_again and epoch > 1:
            cropped = frozen.draw_again(epoch - 1)
            features = {
                subset: values._replace(train=cropped[subset])
                for subset, values in features.items()
            }
        losses = {}
        for subset, lr in keys:
            adjust_learning_rate(optimizers[subset, lr], lr * factor)
            train, train_labels, *_ = features[subset]
            losses[subset, lr] = train_one_epoch(
                heads[subset, lr],
                optimizers[subset, lr],
                ((train[batch], train_labels[batch]) for batch in batches),
            )
        if epoch % scores.EVALUATE_EVERY == 0 or epoch == recipe.epochs:
            check_losses(losses, epoch)
            with torch.inference_mode():
                logits = {key: heads[key](features[key[0]].val) for key in keys}
            fused = {
                (row.name, lr): late_fusion(logits[subset, lr] for subset in row.subsets)
                for row, lr in product(rows, recipe.lr)
            }
            for key, values in fused.items():
                eval_history[key][epoch] = scores.accuracy(values, labels)

    results = []
    for row, lr in product(rows, recipe.lr):
        loss = losses[row.subsets[0], lr].item() if len(row.subsets) == 1 else None
        summary = scores.classification_summary(
            fused[row.name, lr], labels, num_classes, frozen.origin.performers
        )
        results.append(
            {'modalities': row.name, 'lr': lr, 'training_loss': loss}
            | row_facts(row, frozen.origin)
            | summary
            | scores.best_seen(eval_history[row.name, lr])
        )
    return results


def check_losses(losses: dict[tuple[Subset, float], torch.Tensor], epoch: int) -> None:
    """InputError for a loss that is not finite."""
    for (_, lr), loss in losses.items():
        if not loss.isfinite():
            raise InputError(
                f'--lr {lr:g}: the loss is not finite after epoch {epoch}; use a smaller one'
            )


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
    total = 0.0
    clips = 0
    for inputs, labels in batches:
        loss = cross_entropy(model(inputs).float(), labels)
        optimizer.zero_grad()
        loss_scaler.scale(loss).backward()
        loss_scaler.step(optimizer)
        loss_scaler.update()
        total += loss.detach() * len(labels)
        clips += len(labels)
    return total / clips


def main_result(results: list[dict], main: str) -> dict:
    """The result of the row named `main` and the first learning rate, as a results file holds it.

    results: of `train_probe`. by_lr has the result of each learning rate without predictions, and
    its table if there are several rows; the main result has the first of these tables.
    """
    main_rows = [row for row in results if row['modalities'] == main]
    by_lr = scores.without_predictions(main_rows)
    for row in by_lr:
        table = [other for other in results if other['lr'] == row['lr']]
        if len(table) > 1:
            row['table'] = scores.without_predictions(table)
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
        f'negative log-likelihood {first["nll"]:.3f}',
        f'top-1 accuracy, best seen:   {first["best_accuracy"]:.2f} % (epoch '
        f'{first["best_epoch"]}; chosen on the test split, which is how the official code reports)',
    ]
    if 'table' in first:
        for row in first['by_lr']:
            lines += [f'\nlr {row["lr"]:g}', scores.table(row['table'], COLUMNS)]
    elif len(results) > 1:
        by_lr = [row | {'modalities': f'lr {row["lr"]:g}'} for row in results]
        lines.append(scores.table(by_lr, COLUMNS))
    if len(first['by_lr']) > 1:
        lines.append(
            f'(The lines above the table are for lr {first["lr"]:g}, the first one given. Choosing '
            'a learning rate by these numbers means choosing on the test split.)'
        )
    return '\n'.join(lines)
