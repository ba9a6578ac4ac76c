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
        about = json.loads(str(arrays['about'])) if 'about' in arrays else {}
        about |= {name: arrays[name].tolist() for name in NAMES if name in arrays}
    subsets = about.get('subsets')
    return Source(
        about.get('dataset'),
        about.get('protocol'),
        subsets and [tuple(subset) for subset in subsets],
        Origin(**{name: about.get(name) for name in Origin._fields}),
    )


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
            found = [arrays[name] for name in names]
            train, train_labels, val, val_labels = found
            width = train.shape[-1:]
            wanted = [(len(train_labels), *width), (len(val_labels), *width)]
            if [train.shape, val.shape] != wanted:
                raise InputError(
                    f'--load-features {path}: the shapes of {", ".join(names)} disagree'
                )
            kinds = zip(found, (np.float32, np.int64) * 2, strict=True)
            tensors = [torch.from_numpy(array.astype(kind, copy=False)) for array, kind in kinds]
            features[subset] = Features(*tensors)
    return features


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
