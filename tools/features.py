"""Features of a frozen encoder: extracted once, for both parts, then used by every evaluation."""
from typing import NamedTuple

import numpy as np
import torch

from data_gen import manifest
from data_gen.arrays import replacing
from data_gen.cli import InputError, progress
from data_gen.protocols import DATASETS, PROTOCOLS
from feeder import store
from feeder.feeders import downstream_batches
from tools import checkpoint, options
from tools.device import amp_dtype, autocast


class Features(NamedTuple):
    """train (N, 2H), train_labels (N,), val (M, 2H), val_labels (M,); float32 and int64."""
    train: torch.Tensor
    train_labels: torch.Tensor
    val: torch.Tensor
    val_labels: torch.Tensor


@torch.inference_mode()
def extract(backbone, clips, modalities, batch_size, dtype=None):
    """Features (N, 2H) float32 of every clip of a store, in its order, on its device; dtype: see device.amp_dtype."""
    device, blocks = clips.frames.device, []
    batches = -(-len(clips) // batch_size)
    every = downstream_batches(clips, batch_size, modalities)
    for streams in progress(every, 'features', batches, 'batch', leave=False):
        with autocast(dtype, device):
            blocks.append(backbone.encode(streams).float())
    return torch.cat(blocks)


def from_args(args, device):
    """The features that an evaluation script was asked for: read from a file, or extracted with a checkpoint."""
    if args.load_features:
        features = load(args.load_features)
    else:
        if args.pretrained is None:
            raise InputError('--pretrained CHECKPOINT is missing (or --load-features FILE)')
        backbone = checkpoint.load_model(args.pretrained).backbone.to(device)
        folder, dtype = options.data_folder(args), amp_dtype(args.amp, device)
        parts = []
        for part in ('train', 'val'):
            clips = store.load(folder, part).to(device)
            parts += [extract(backbone, clips, args.modalities, args.batch_size, dtype), clips.labels]
        features = Features(*parts)
    labels = torch.cat((features.train_labels, features.val_labels))
    count, _ = classes(args, features)
    if labels.min() < 0 or labels.max() >= count:
        raise InputError(f'labels run from {labels.min()} to {labels.max()}, but {args.dataset} has {count} classes')
    if args.save_features:
        save(args.save_features, features)
    return Features(*(tensor.to(device) for tensor in features))


def classes(args, features):
    """(number of classes, their names or None): of a data set that fixes neither, as its manifest or the labels say."""
    dataset = DATASETS[args.dataset]
    made = manifest.read(args.data_root / dataset.folder / PROTOCOLS[args.protocol]) or {}
    names = made.get('class_names')
    labels = torch.cat((features.train_labels, features.val_labels))
    return dataset.classes or len(names or ()) or labels.max().item() + 1, names


def save(path, features):
    with replacing(path) as file:
        np.savez(file, **{name: tensor.cpu().numpy() for name, tensor in features._asdict().items()})


def load(path):
    """Features from an .npz of `save`; InputError for anything else."""
    try:
        with np.load(path) as arrays:
            train, train_labels, val, val_labels = (arrays[name] for name in Features._fields)
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(f'--load-features {path}: not an .npz of {", ".join(Features._fields)} ({error})') from error
    counts = len(train) == len(train_labels) and len(val) == len(val_labels)
    if train.ndim != 2 or train.shape[1:] != val.shape[1:] or not counts:
        raise InputError(f'--load-features {path}: shapes disagree: {train.shape}, {train_labels.shape}, {val.shape}, '
                         f'{val_labels.shape}')
    return Features(*(torch.from_numpy(array) for array in (train.astype(np.float32), train_labels.astype(np.int64),
                                                           val.astype(np.float32), val_labels.astype(np.int64))))
