"""Results files: the numbers, with everything that produced them."""
import hashlib
import json
import sys

import torch

from data_gen.arrays import replacing

ORIGIN = ('checkpoint_sha256', 'data_sha256', 'pretrained_on')  # what `features.identify` finds out


def write(path, args, **numbers):
    """Write `numbers` as JSON, tensors as lists, with the command line, the arguments and where all came from."""
    given = {name: as_text(value) for name, value in vars(args).items() if name not in ORIGIN}
    record = numbers | {'command': sys.argv, 'args': given, 'seed': args.seed, 'torch': torch.__version__}
    record |= {name: getattr(args, name, None) for name in ORIGIN}
    with replacing(path) as file:
        file.write(json.dumps(record, default=as_list).encode() + b'\n')


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
