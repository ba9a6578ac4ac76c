"""Features kept in .npz files: one subset of the modalities each."""
import json
import sys
from typing import NamedTuple

import numpy as np
import torch

from data_gen.arrays import replacing
from data_gen.cli import InputError
from feeder.modalities import MODALITIES
from tools.results import ORIGIN

ABOUT = ('dataset', 'protocol', 'modalities', *ORIGIN)  # kept with the features
# Flags' defaults: they give way to what a file says of itself, anything else that contradicts it is a mistake.
USUAL = {'dataset': 'ntu60', 'protocol': 'cross_subject', 'modalities': list(MODALITIES)}


class Features(NamedTuple):
    """train (N, 2H), train_labels (N,), val (M, 2H), val_labels (M,); float32 and int64."""
    train: torch.Tensor
    train_labels: torch.Tensor
    val: torch.Tensor
    val_labels: torch.Tensor


def path_of(path, subset):
    """The file of one of several subsets: F.npz becomes F_joint+bone.npz."""
    return path.with_name(f'{path.stem}_{"+".join(subset)}{path.suffix}')


def save_each(data, args):
    """Write {subset: Features} to --save-features, with what args says of them."""
    for subset, features in data.items():
        about = {name: getattr(args, name) for name in ABOUT} | {'modalities': subset}
        save(args.save_features if len(data) == 1 else path_of(args.save_features, subset), features, about)


def save(path, features, about):
    arrays = {name: tensor.cpu().numpy() for name, tensor in features._asdict().items()}
    with replacing(path) as file:
        np.savez(file, **arrays, about=json.dumps(about))


def load_each(subsets, args):
    """{subset: Features} of --load-features; what the files say of themselves stands, whatever the flags."""
    if len(subsets) == 1:
        features, about = load(args.load_features)
        data = {tuple(about.get('modalities', subsets[0])): features}
    else:
        data, about = load_several(subsets, args.load_features)
    for name in ABOUT:
        kept, asked = about.get(name), getattr(args, name, None)
        if name in USUAL and kept not in (None, asked):
            if asked != USUAL[name]:
                raise InputError(f'{args.load_features} is of {name} {kept}, not of {asked}')
            print(f'note: {args.load_features} is of {name} {kept}', file=sys.stderr)
        setattr(args, name, about.get(name, asked))
    return data


def load_several(subsets, path):
    """({subset: Features}, what is said of all of them); InputError for files that do not belong together."""
    data, common = {}, None
    for subset in subsets:
        file = path_of(path, subset)
        data[subset], about = load(file)
        if tuple(about.pop('modalities', subset)) != subset:
            raise InputError(f'--load-features {file}: these are not the features of {"+".join(subset)}')
        first, common = data[subsets[0]], about if common is None else common
        same_labels = all(getattr(data[subset], part).equal(getattr(first, part))
                          for part in ('train_labels', 'val_labels'))
        if about != common or not same_labels:
            raise InputError(f'--load-features {file}: of another checkpoint or other data than '
                             f'{path_of(path, subsets[0]).name}')
    return data, common


def load(path):
    """(Features, what is said about them, see ABOUT) of an .npz of `save`, or of another with these arrays."""
    if not path.is_file():
        others = sorted(path.parent.glob(f'{path.stem}_*{path.suffix}'))
        raise InputError(f'--load-features {path}: no such file' + (
            f'; {others[0].name} and others are there, for --ensemble or --all-modalities' if others else ''))
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
    return Features(*(torch.from_numpy(array.astype(kind, copy=False)) for array, kind in pairs)), about
