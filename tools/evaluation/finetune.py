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
from tools.evaluation.features import Extraction, Inputs
from tools.evaluation.late_fusion import Subset
from tools.evaluation.probe import linear_head, train_one_epoch
from tools.evaluation.recipes import Crops, Recipe, training_crops
from tools.schedule import adjust_learning_rate
from tools.scores import EVALUATE_EVERY


class Classifier(nn.Module):
    """Backbone and linear head, with the official code's names: `backbone.*`, `fc.weight`,
    `fc.bias`.
    """

    def __init__(self, backbone: Backbone, fc: nn.Linear):
        super().__init__()
        self.backbone, self.fc = backbone, fc

    def forward(self, parts: list[dict]) -> torch.Tensor:
        return self.fc(self.backbone.encode(*parts))  # logits (N, num_classes)


class FineTuning(NamedTuple):
    """The result of one run.

    eval_history: {epoch: logits (M, num_classes) of the val split, on the CPU}; training_loss: the
    mean of the last epoch.
    """

    eval_history: dict[int, torch.Tensor]
    training_loss: float


def finetune(
    inputs: Inputs,
    recipe: Recipe,
    extraction: Extraction,
    seed: int,
    save_model: Path | None = None,
    *,
    modalities: Subset,
    clips: torch.Tensor,
    repeat: int,
) -> FineTuning:
    """Fine-tune a copy of the encoder on the training clips with these indices (N,), by a recipe.

    Seed and repeat determine the head, the order of the clips and their crops. save_model: a file
    for the weights. Raises InputError if the loss is not finite.
    """
    backbone, train, val = inputs.backbone, inputs.train, inputs.val
    device, dtype = train.labels.device, extraction.dtype
    generator = generator_at(seed, repeat, 'head')
    head = linear_head(2 * backbone.hidden_size, inputs.num_classes, generator)
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
    name = '+'.join(modalities)
    test_crops = center_crops(val.num_frames, recipe.test_crop)
    eval_history = {}
    factors = progress(recipe.factors(), name, unit='epoch', leave=False)
    for epoch, factor in enumerate(factors, 1):
        adjust_learning_rate(optimizer, recipe.lr[0] * factor)
        generator = generator_at(seed, repeat, epoch - 1, 'order')
        order = clips[torch.randperm(len(clips), generator=generator)]
        crops = training_crops(train.num_frames, recipe.train_crop, seed, epoch - 1, repeat)
        batches = (
            (parts, train.labels[found])
            for found, parts in downstream_batches(
                train, recipe.batch_size, modalities, crops, order
            )
        )
        forward = autocast(dtype, device)(model.forward)
        loss = train_one_epoch(forward, optimizer, batches, loss_scaler).item()
        if not math.isfinite(loss):
            raise InputError(f'{name}: the loss is not finite in epoch {epoch}; use a smaller --lr')
        if epoch % EVALUATE_EVERY == 0 or epoch == recipe.epochs:
            logits = predict(model, val, modalities, extraction.batch_size, dtype, test_crops)
            eval_history[epoch] = logits.cpu()
    if save_model:
        pretrained_on = inputs.origin.pretrained_on
        checkpoint.save(save_model, model, optimizer, recipe.epochs, config=pretrained_on)
        print(f'written: {save_model}')
    return FineTuning(eval_history, loss)


@torch.inference_mode()
def predict(
    model: Classifier,
    dataset: ClipDataset,
    modalities: Subset,
    batch_size: int,
    dtype: torch.dtype | None,
    crops: Crops | None = None,
) -> torch.Tensor:
    """Logits (M, num_classes) float32 of all clips of a dataset, in order."""
    device = dataset.labels.device
    logits = torch.empty(len(dataset), model.fc.out_features, device=device)
    for clips, parts in downstream_batches(dataset, batch_size, modalities, crops):
        with autocast(dtype, device):
            logits[clips] = model(parts).float()
    return logits
