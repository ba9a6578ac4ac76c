"""One fine-tuning run: backbone and linear head trained together on given clips, scored on the test part."""
import copy
import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from data_gen.cli import InputError
from feeder.feeders import downstream_batches, downstream_streams, generator_at
from feeder.store import ClipStore
from tools import checkpoint
from tools.device import amp_dtype, autocast
from tools.probe import EVALUATE_EVERY, best_seen, five_best, last_epoch, linear_head
from tools.schedule import learning_rate, set_learning_rate


class Task(NamedTuple):
    """What all runs share: the pre-trained backbone and the two parts, all on one device, and the classes."""
    backbone: nn.Module
    train: ClipStore
    val: ClipStore
    classes: int
    class_names: list | None


class Classifier(nn.Module):
    """Backbone and linear head, with the release's names: `backbone.*` and `fc.{weight,bias}`."""

    def __init__(self, backbone, fc):
        super().__init__()
        self.backbone, self.fc = backbone, fc

    def forward(self, streams):
        return self.fc(self.backbone.encode(streams))


def train(task, subset, drawn, repeat, args, bar):
    """Fine-tune for a subset of the modalities on the clips of indices `drawn` (N,).

    Head and order follow from args.seed and `repeat`. Returns the test part's logits at each look, {epoch: (M, C)}, and
    the mean loss of the last epoch. Moves `bar` by one for each epoch.
    """
    device = task.val.labels.device
    width = task.backbone.ma_encoder.pe.pe.shape[2]
    head = linear_head(2 * width, task.classes, generator_at(args.seed, 0, repeat, 1).initial_seed())
    model = Classifier(copy.deepcopy(task.backbone), head).to(device)
    # Fused, it takes a first step that overflows in fp16 for the start of its momentum: memory that nothing has written
    optimizer = torch.optim.SGD(model.parameters(), args.lr, args.momentum, weight_decay=args.weight_decay,
                                fused=amp_dtype(args.amp, device) != torch.float16)
    orders = (drawn[torch.randperm(len(drawn), generator=generator_at(args.seed, epoch, repeat))]
              for epoch in range(args.epochs))
    looks = {}
    for epoch, loss in enumerate(fit(model, optimizer, task.train, subset, orders, args), 1):  # noqa: B007
        if epoch % EVALUATE_EVERY == 0 or epoch == args.epochs:
            looks[epoch] = logits(model, task.val, subset, args).cpu()  # a late fusion keeps many
        bar.update()
    if args.save_model:
        checkpoint.save(args.save_model, model, optimizer, args.epochs)
    return looks, loss


def fit(model, optimizer, clips, subset, orders, args):
    """Train a Classifier on clips of a store: `orders` has their indices for each epoch. Yields each epoch's mean loss.

    The streams are made anew for each batch: to keep them would save 4 % of a step at width 128, 0.1 % at 1024.
    """
    device = clips.labels.device
    dtype = amp_dtype(args.amp, device)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    for epoch, order in enumerate(orders):
        set_learning_rate(optimizer, learning_rate(args, epoch))
        total = torch.zeros((), device=device)
        for batch in order.to(device).split(args.batch_size):
            with autocast(dtype, device):
                predicted = model(downstream_streams(clips, batch, subset))
            loss = functional.cross_entropy(predicted.float(), clips.labels[batch])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            total += loss.detach() * len(batch)
        mean = (total / len(order)).item()
        if not math.isfinite(mean):
            raise InputError(f'{"+".join(subset)}: the loss is not finite in epoch {epoch + 1}; use a smaller --lr')
        yield mean


@torch.inference_mode()
def logits(model, clips, subset, args):
    """A Classifier's logits (M, C) float32 of all clips of a store."""
    device, blocks = clips.labels.device, []
    for streams in downstream_batches(clips, args.extract_batch, subset):
        with autocast(amp_dtype(args.amp, device), device):
            blocks.append(model(streams).float())
    return torch.cat(blocks)


def late_fusion(every):
    """The mean of the logits of several models at each look."""
    return {epoch: torch.stack([looks[epoch] for looks in every]).mean(0) for epoch in every[0]}


def score(looks, task, args):
    """The scores of the last look, and under its own name the best accuracy of all; looks: {epoch: logits (M, C)}."""
    labels = task.val.labels.cpu()
    five = {epoch: five_best([values.T[None]])[0] for epoch, values in looks.items()}
    correct = {epoch: (classes[0] == labels).sum().item() for epoch, classes in five.items()}
    return last_epoch(five[max(looks)], labels, task.classes, args.seed) | best_seen(correct, len(labels))
