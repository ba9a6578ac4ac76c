"""Features in one .npz file: `train`, `train_labels`, `train_names`, the same of `val`, and what
they are features of.

With several subsets of the modalities, `train` and `val` become `train_joint`, `train_joint+bone`
and so on.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_gen.protocols import DATASETS, PROTOCOLS
from data_gen.reader import texts, whole_labels
from feeder.dataset import warn
from tools.common.cli import InputError
from tools.common.files import check_zip, replacing
from tools.evaluation.late_fusion import Subset
from tools.results import Origin

NAMES = ('train_names', 'val_names')  # arrays of the clips' names


class Features(NamedTuple):
    """train (N, 2H), train_labels (N,), val (M, 2H), val_labels (M,); float32 and int64."""

    train: torch.Tensor
    train_labels: torch.Tensor
    val: torch.Tensor
    val_labels: torch.Tensor


class Source(NamedTuple):
    """What the features of a file were extracted from; None where the file does not say."""

    dataset: str | None = None
    protocol: str | None = None
    subsets: list[Subset] | None = None
    origin: Origin = Origin()


def save(
    path: Path, features: dict[Subset, Features], dataset: str, protocol: str, origin: Origin
) -> None:
    arrays = {
        name: tensor.cpu().numpy()
        for subset, values in features.items()
        for name, tensor in zip(array_names(subset, len(features) == 1), values, strict=True)
    }
    arrays |= {name: getattr(origin, name) for name in NAMES if getattr(origin, name)}
    about = {
        'dataset': dataset,
        'protocol': protocol,
        'subsets': list(features),
        **origin._replace(**dict.fromkeys(NAMES))._asdict(),
    }
    with replacing(path) as file:
        np.savez(file, **arrays, about=json.dumps(about))


def read_source(path: Path) -> Source:
    """What a file's features are of; empty for a file from elsewhere."""
    with open_arrays(path) as arrays:
        about = read_about(arrays, path) if 'about' in arrays else {}
        about |= {name: texts(read_array(arrays, name, path)) for name in NAMES if name in arrays}
        for name in NAMES:
            labels = name.replace('names', 'labels')
            if name in arrays and len(about[name]) != len(read_array(arrays, labels, path)):
                raise InputError(f'{path}: {name} and {labels} are not of as many clips')
    return Source(
        about.get('dataset'),
        about.get('protocol'),
        about.get('subsets'),
        Origin(**{name: about.get(name) for name in Origin._fields}),
    )


def read_about(arrays, path: Path) -> dict:
    """What `save` has written about the features; empty, with a note, if something else has."""
    try:
        about = json.loads(str(arrays['about']))
        if about['dataset'] in DATASETS and about['protocol'] in PROTOCOLS:
            subsets = about.get('subsets')
            return about | {'subsets': subsets and [tuple(subset) for subset in subsets]}
    except (ValueError, TypeError, KeyError):
        pass
    warn(f'note: {path}: its array about is not of --save-features, so it is left out')
    return {}


def load(path: Path, subsets: list[Subset]) -> dict[Subset, Features]:
    """The features of these subsets; InputError if the file does not hold them."""
    stored = read_source(path).subsets
    if stored and (absent := [subset for subset in subsets if subset not in stored]):
        raise InputError(
            f'--load-features {path} holds {", ".join(map("+".join, stored))}, not '
            f'{"+".join(absent[0])}'
        )
    single = not stored or len(stored) == 1
    if single and len(subsets) > 1:
        raise InputError(
            f'--load-features {path} holds one set of features; several subsets need a file of '
            'several'
        )
    features = {}
    with open_arrays(path) as arrays:
        for subset in subsets:
            names = array_names(subset, single)
            if absent := [name for name in names if name not in arrays]:
                raise InputError(f'--load-features {path}: the array {absent[0]} is missing')
            train, val = (read_features(arrays, name, path) for name in names[::2])
            train_labels, val_labels = (
                whole_labels(read_array(arrays, name, path), f'{path}, {name}')
                for name in names[1::2]
            )
            width = train.shape[-1:]
            wanted = [(len(train_labels), *width), (len(val_labels), *width)]
            if [train.shape, val.shape] != wanted:
                raise InputError(
                    f'--load-features {path}: the shapes of {", ".join(names)} disagree'
                )
            found = train, train_labels, val, val_labels
            features[subset] = Features(*map(torch.from_numpy, found))
    return features


def read_features(arrays, name: str, path: Path) -> np.ndarray:
    """Features as float32; numbers too large for it become infinite."""
    array = read_array(arrays, name, path)
    if array.dtype.kind not in 'iuf':
        raise InputError(f'{path}: the array {name} is {array.dtype}, not numbers')
    with np.errstate(over='ignore'):
        return array.astype(np.float32, copy=False)


def read_array(arrays, name: str, path: Path) -> np.ndarray:
    try:
        return arrays[name]
    except ValueError as error:  # objects, which could run code
        raise InputError(f'{path}: the array {name} cannot be read: {error}') from error


def array_names(subset: Subset, single: bool) -> list[str]:
    suffix = '' if single else f'_{"+".join(subset)}'
    return [f'train{suffix}', 'train_labels', f'val{suffix}', 'val_labels']


def open_arrays(path: Path):
    """A context with the arrays of an .npz file; InputError for any other file."""
    if not path.is_file():
        raise InputError(f'--load-features {path}: no such file')
    try:
        check_zip(path)
        arrays = np.load(path)
        {name: arrays[name].dtype for name in ('train_labels', 'val_labels')}
        return arrays
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(
            f'--load-features {path}: not an .npz file with features and labels ({error})'
        ) from error
