"""Features of a frozen encoder: extracted once, for both parts, then used by every evaluation."""
import json
import sys
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
from tools.results import digest

ABOUT = ('dataset', 'protocol', 'modalities', 'checkpoint_sha256')  # kept with the features


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
        features, about = load(args.load_features)
        for name, value in about.items():  # what the file says of itself stands, whatever the flags
            if name in ('dataset', 'protocol') and value != getattr(args, name):
                print(f'note: {args.load_features} is of {name} {value}', file=sys.stderr)
            setattr(args, name, value)
        if args.pretrained:
            print('note: --pretrained has no effect here: the features come from --load-features', file=sys.stderr)
    else:
        features = with_checkpoint(args, device)
        args.checkpoint_sha256 = digest(args.pretrained)
    check(args, features)
    if args.save_features:
        save(args.save_features, features, {name: getattr(args, name, None) for name in ABOUT})
    return Features(*(tensor.to(device) for tensor in features))


def with_checkpoint(args, device):
    """Run the encoder of --pretrained over both parts."""
    if args.pretrained is None:
        raise InputError('--pretrained CHECKPOINT is missing (or --load-features FILE)')
    backbone = checkpoint.load_model(args.pretrained).backbone.to(device)
    folder, dtype = options.data_folder(args), amp_dtype(args.amp, device)
    parts = []
    for part in ('train', 'val'):
        clips = store.load(folder, part).to(device)
        width = backbone.j_emb.t_embedding[0].in_features
        if clips.frames[0].numel() != width:
            raise InputError(f'{folder}: {clips.frames[0].numel()} numbers a frame, {args.pretrained} takes {width}')
        parts += [extract(backbone, clips, args.modalities, args.batch_size, dtype), clips.labels]
    return Features(*parts)


def check(args, features):
    """InputError for features that no score can be trusted of."""
    if not len(features.train) or not len(features.val):
        raise InputError(f'{len(features.train)} training and {len(features.val)} test clips: nothing to evaluate')
    if not (features.train.isfinite().all() and features.val.isfinite().all()):
        raise InputError(f'{args.load_features or args.pretrained} gives features that are not finite')
    labels = torch.cat((features.train_labels, features.val_labels))
    count, _ = classes(args, features)
    if labels.min() < 0 or labels.max() >= count:
        raise InputError(f'labels run from {labels.min()} to {labels.max()}, but {args.dataset} has {count} classes')


def classes(args, features):
    """(number of classes, their names or None): of a data set that fixes neither, as its manifest or the labels say."""
    dataset = DATASETS[args.dataset]
    made = manifest.read(args.data_root / dataset.folder / PROTOCOLS[args.protocol]) or {}
    names = made.get('class_names')
    labels = torch.cat((features.train_labels, features.val_labels))
    return dataset.classes or len(names or ()) or labels.max().item() + 1, names


def save(path, features, about):
    arrays = {name: tensor.cpu().numpy() for name, tensor in features._asdict().items()}
    with replacing(path) as file:
        np.savez(file, **arrays, about=json.dumps(about))


def load(path):
    """(Features, what is said about them, see ABOUT) of an .npz of `save`, or of another with these arrays."""
    try:
        with np.load(path) as arrays:
            train, train_labels, val, val_labels = (arrays[name] for name in Features._fields)
            about = json.loads(str(arrays['about'])) if 'about' in arrays else {}
            about = {name: about[name] for name in ABOUT if name in about}
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(f'--load-features {path}: not an .npz of {", ".join(Features._fields)} ({error})') from error
    counts = len(train) == len(train_labels) and len(val) == len(val_labels)
    if train.ndim != 2 or train.shape[1:] != val.shape[1:] or not counts:
        raise InputError(f'--load-features {path}: shapes disagree: {train.shape}, {train_labels.shape}, {val.shape}, '
                         f'{val_labels.shape}')
    pairs = zip((train, train_labels, val, val_labels), (np.float32, np.int64) * 2, strict=True)
    return Features(*(torch.from_numpy(array.astype(kind)) for array, kind in pairs)), about
