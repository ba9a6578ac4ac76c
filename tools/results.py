"""Results files: the numbers, with everything that produced them."""
import hashlib
import json
import sys
from pathlib import Path

import torch

from data_gen import manifest
from data_gen.arrays import replacing

ORIGIN = ('checkpoint_sha256', 'data_sha256', 'pretrained_on')  # what features.load_backbone finds out


def write(path, args, **numbers):
    """Write `numbers` as JSON, tensors as lists, with the command line, the arguments and where all came from."""
    given = {name: as_text(value) for name, value in vars(args).items() if name not in ORIGIN}
    record = numbers | {'command': sys.argv, 'args': given, 'seed': args.seed, 'torch': torch.__version__}
    record |= {name: getattr(args, name, None) for name in ORIGIN}
    with replacing(path) as file:
        file.write(json.dumps(record, default=as_list).encode() + b'\n')


def print_origin(args):
    """Print what the encoder was pre-trained on, where its checkpoint says so."""
    if about := args.pretrained_on:
        print(f'pre-trained on {about["dataset"]} {about["protocol"]}, {"+".join(about["modalities"])}, '
              f'objective {about["objective"]}')


def move_aside(path):
    """Give a results file another name, so that it is not overwritten; returns the name."""
    number = 1
    while (target := path.with_name(f'{path.stem}_earlier_{number}{path.suffix}')).exists():
        number += 1
    return path.rename(target)


def as_text(value):
    if isinstance(value, list | tuple):
        return [as_text(item) for item in value]
    return value if isinstance(value, int | float | str | None) else str(value)


def as_list(value):
    """What JSON does not know: a tensor, an array or one of its numbers."""
    return value.tolist()


def digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def data_digest(folder):
    """By which to know a folder of arrays again: of its manifest, or where there is none of labels and frame counts."""
    made = Path(folder) / manifest.NAME
    if made.is_file():
        return digest(made)
    small = sorted((*made.parent.glob('*_label.pkl'), *made.parent.glob('*_num_frame.npy')))
    return hashlib.sha256(''.join(map(digest, small)).encode()).hexdigest()
