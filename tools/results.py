"""Results files: the numbers, together with the configuration that led to them."""

import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from data_gen import manifest
from tools.common.files import file_sha256, replacing
from tools.version import code_version


class Origin(NamedTuple):
    """Where features come from; None for what is not known.

    pretrained_on: the `config` in pretrain.py's checkpoint. val_names, performers: the name of each
    test clip and who performs it; train_names: of each training clip. gflops: per clip, by subset.
    """

    checkpoint_sha256: str | None = None
    data_sha256: str | None = None
    pretrained_on: dict | None = None
    val_names: list[str] | None = None
    performers: list | None = None
    train_names: list[str] | None = None
    gflops: dict[str, float] | None = None

    def record(self) -> dict:
        """What a results file holds of it."""
        record = self._asdict()
        del record['train_names'], record['gflops']
        return record


def write(path: Path, configuration: dict, **numbers) -> None:
    """Write `numbers` as JSON (tensors as lists) with `configuration`, the command line and the
    versions of torch and of this code.
    """
    record = numbers | {'config': configuration, 'command': sys.argv}
    record |= {'torch': torch.__version__, 'code': code_version()}
    with replacing(path) as file:
        file.write(json.dumps(record, default=lambda tensor: tensor.tolist()).encode() + b'\n')


def is_finished(path: Path, configuration: dict) -> bool:
    """Whether a results file is finished and of exactly this configuration; prints a line if so."""
    record = read(path)
    as_written = json.loads(json.dumps(configuration))
    finished = 'accuracy' in record and record.get('config') == as_written
    if finished:
        print(f'{path}: finished already')
    return finished


def read(path: Path | None) -> dict:
    """The record in a results file; empty if there is none that can be read."""
    try:
        record = json.loads(path.read_text())
    except (AttributeError, OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def print_origin(pretrained_on: dict | None, dataset: str, protocol: str) -> None:
    """Print what the encoder was pre-trained on, if its checkpoint says so, and a line if it is
    evaluated on other data.
    """
    if not pretrained_on:
        return
    source = f'{pretrained_on["dataset"]} {pretrained_on["protocol"]}'
    target = f'{dataset} {protocol}'
    print(
        f'pre-trained on {source}, {"+".join(pretrained_on["modalities"])}, objective '
        f'{pretrained_on["objective"]}, recipe {pretrained_on.get("recipe", "published")}'
    )
    if source != target:
        print(f'transfer: pre-trained on {source}, evaluated on {target}')


def data_sha256(folder: Path) -> str:
    """Identifies the clips in a folder of arrays, whatever their layout.

    It is the hash of what the manifest says of them: the hashes of the splits, class names and
    performers. Without a manifest, of the files with labels and frame counts.
    """
    known = manifest.read(folder)
    if known is None:
        small_files = sorted((*folder.glob('*_label.pkl'), *folder.glob('*_num_frame.npy')))
        text = ''.join(map(file_sha256, small_files))
    else:
        identity = {split: entry['hash'] for split, entry in known['parts'].items()}
        identity |= {name: known.get(name) for name in ('class_names', 'performers')}
        text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
