"""Fine-tuning: backbone and linear head trained together on labelled clips, then evaluated on the
val split.
"""

import copy
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from feeder.augmentations import center_crops
from feeder.dataset import ClipDataset
from feeder.feeders import downstream_batches, generator_at
from model.umurl import Backbone
from tools import checkpoint
from tools.common.cli import InputError, progress
from tools.device import autocast
from tools.evaluation.probe import linear_head, train_one_epoch
from tools.evaluation.recipes import HEAD, Crops, Recipe, training_crops
from tools.schedule import adjust_learning_rate
from tools.scores import EVALUATE_EVERY


class Classifier(nn.Module):
    """Backbone and linear head, with the official code's names: `backbone.*`, `fc.weight`,
    `fc.bias`.
    """

    def __init__(self, backbone: Backbone, fc: nn.Linear):
        super().__init__()
        self.backbone, self.fc = backbone, fc

    def forward(self, streams: dict) -> torch.Tensor:
        return self.fc(self.backbone.encode(streams))  # logits (N, num_classes)


class FineTuning(NamedTuple):
    """The result of one run."""

    eval_history: dict[
        int, torch.Tensor
    ]  # {epoch: logits (M, num_classes) of the val split, on the CPU}
    training_loss: float  # mean of the last epoch


def finetune(
    backbone: Backbone,
    train: ClipDataset,
    val: ClipDataset,
    num_classes: int,
    *,
    modalities: tuple[str, ...],
    clips: torch.Tensor,
    repeat: int,
    recipe: Recipe,
    factors: list[float],
    dtype: torch.dtype | None,
    seed: int,
    extract_batch: int,
    save_model: Path | None = None,
    pretrained_on: dict | None = None,
) -> FineTuning:
    """Fine-tune a copy of the backbone on the clips of `train` with these indices (N,).

    Each epoch's learning rate is the recipe's first times its factor. Seed and repeat determine the
    head, the order of the clips and their crops. dtype: of autocast, None for float32.
    pretrained_on: kept in the file of `save_model`. Raises InputError if the loss is not finite.
    """
    device = train.labels.device
    head = linear_head(
        2 * backbone.hidden_size, num_classes, generator_at(seed, HEAD, repeat).initial_seed()
    )
    model = Classifier(copy.deepcopy(backbone), head).to(device)
    # Not fused with fp16: if the very first step overflows, fused SGD starts its momentum from
    # uninitialised memory.
    optimizer = torch.optim.SGD(
        model.parameters(),
        recipe.lr[0],
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=dtype != torch.float16,
    )
    loss_scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    eval_history, test_crops = {}, center_crops(val.num_frames, recipe.test_crop)
    for epoch, factor in enumerate(
        progress(factors, '+'.join(modalities), unit='epoch', leave=False), 1
    ):
        adjust_learning_rate(optimizer, recipe.lr[0] * factor)
        order = clips[
            torch.randperm(len(clips), generator=generator_at(seed, epoch - 1, repeat))
        ].to(device)
        crops = training_crops(train.num_frames, recipe.train_crop, seed, epoch - 1, repeat)
        batches = zip(
            downstream_batches(train, recipe.batch_size, modalities, crops, order),
            train.labels[order].split(recipe.batch_size),
            strict=True,
        )
        loss = train_one_epoch(
            autocast(dtype, device)(model.forward), optimizer, batches, loss_scaler
        ).item()
        if not math.isfinite(loss):
            raise InputError(
                f'{"+".join(modalities)}: the loss is not finite in epoch {epoch}; use a smaller '
                '--lr'
            )
        if epoch % EVALUATE_EVERY == 0 or epoch == len(factors):
            eval_history[epoch] = predict(
                model, val, modalities, extract_batch, dtype, test_crops
            ).cpu()
    if save_model:
        checkpoint.save(save_model, model, optimizer, len(factors), config=pretrained_on)
    return FineTuning(eval_history, loss)


@torch.inference_mode()
def predict(
    model: Classifier,
    dataset: ClipDataset,
    modalities: tuple[str, ...],
    batch_size: int,
    dtype: torch.dtype | None,
    crops: Crops | None = None,
) -> torch.Tensor:
    """Logits (M, num_classes) float32 of all clips of a dataset, in order."""
    logits = []
    for streams in downstream_batches(dataset, batch_size, modalities, crops):
        with autocast(dtype, dataset.labels.device):
            logits.append(model(streams).float())
    return torch.cat(logits)
