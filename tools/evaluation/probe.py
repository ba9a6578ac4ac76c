"""The linear probe: linear heads trained on fixed features, one for each subset of the modalities and learning rate."""
from itertools import product

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from data_gen.cli import InputError, progress
from feeder.feeders import generator_at
from tools.evaluation.feature_files import Features
from tools.evaluation.late_fusion import FusionRow, Subset, late_fusion
from tools.schedule import adjust_learning_rate
from tools.scores import EVALUATE_EVERY, accuracy, best_seen, classification_summary


def linear_head(num_features: int, num_classes: int, seed: int) -> nn.Linear:
    """Weights N(0, 0.01), bias 0, as in the official code."""
    head = nn.Linear(num_features, num_classes)
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    return head


def train_probe(features: dict[Subset, Features], rows: list[FusionRow], num_classes: int, lrs: list[float],
                factors: list[float], batch_size: int, momentum: float, weight_decay: float, seed: int) -> list[dict]:
    """Train a head for each subset and learning rate on the same batches, and score the rows of the table.

    factors: what the learning rates are multiplied by in each epoch. Returns a dict of scores for each row and learning
    rate, row by row. A row of several subsets is their late fusion. InputError if a loss is not finite.
    """
    first = next(iter(features.values()))
    labels, num_epochs = first.val_labels, len(factors)
    heads = {(subset, lr): linear_head(values.train.shape[1], num_classes, seed).to(labels.device)
             for subset, values in features.items() for lr in lrs}
    optimizers = {key: torch.optim.SGD(head.parameters(), lr=key[1], momentum=momentum, weight_decay=weight_decay)
                  for key, head in heads.items()}
    eval_history = {(row.name, lr): {} for row, lr in product(rows, lrs)}
    for epoch in progress(range(1, num_epochs + 1), 'probe', unit='epoch'):
        order = torch.randperm(len(first.train), generator=generator_at(seed, epoch - 1)).to(labels.device)
        losses = {}
        for (subset, lr), head in heads.items():
            optimizer = optimizers[subset, lr]
            adjust_learning_rate(optimizer, lr * factors[epoch - 1])
            losses[subset, lr] = train_one_epoch(head, optimizer, features[subset], order, batch_size)
        if epoch % EVALUATE_EVERY == 0 or epoch == num_epochs:
            check_finite(losses, epoch)
            logits = evaluate(heads, features)
            for row, lr in product(rows, lrs):
                eval_history[row.name, lr][epoch] = accuracy(fused(logits, row, lr), labels)

    results = []
    for row, lr in product(rows, lrs):
        loss = losses[row.subsets[0], lr].item() if len(row.subsets) == 1 else None
        results.append({'modalities': row.name, 'lr': lr, 'training_loss': loss,
                        **classification_summary(fused(logits, row, lr), labels, num_classes),
                        **best_seen(eval_history[row.name, lr])})
    return results


def train_one_epoch(head: nn.Linear, optimizer: torch.optim.Optimizer, features: Features, order: torch.Tensor,
                    batch_size: int) -> torch.Tensor:
    """SGD on the training features in this order (N,); the mean loss, on the device."""
    total = torch.zeros((), device=order.device)
    for batch in order.split(batch_size):
        loss = cross_entropy(head(features.train[batch]), features.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(batch)
    return total / len(order)


@torch.inference_mode()
def evaluate(heads: dict, features: dict[Subset, Features]) -> dict:
    """The logits (M, C) of every head on the test features."""
    return {(subset, lr): head(features[subset].val) for (subset, lr), head in heads.items()}


def fused(logits: dict, row: FusionRow, lr: float) -> torch.Tensor:
    return late_fusion(logits[subset, lr] for subset in row.subsets)


def check_finite(losses: dict, epoch: int) -> None:
    for (_, lr), loss in losses.items():
        if not loss.isfinite():
            raise InputError(f'--lr {lr:g}: the loss is not finite after epoch {epoch}; choose a smaller one')
