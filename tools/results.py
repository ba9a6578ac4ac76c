"""Results files: the numbers, with everything that produced them."""
import hashlib
import json
import sys

import torch

from data_gen.arrays import replacing


def write(path, args, **numbers):
    """Write `numbers` as JSON, tensors as lists, with the command line, the arguments and the checkpoint's hash."""
    record = {name: value.tolist() if torch.is_tensor(value) else value for name, value in numbers.items()}
    record |= {'command': sys.argv, 'args': {name: as_text(value) for name, value in vars(args).items()},
               'checkpoint_sha256': getattr(args, 'checkpoint_sha256', None), 'torch': torch.__version__}
    with replacing(path) as file:
        file.write(json.dumps(record).encode() + b'\n')


def as_text(value):
    return value if isinstance(value, int | float | list | None) else str(value)


def digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
