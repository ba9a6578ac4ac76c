"""Results files: the numbers, together with the configuration that led to them."""

import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from data_gen import manifest
from tools.common.files import file_sha256, replacing


class Origin(NamedTuple):
    """Where features come from; None for what is not known. pretrained_on: the `config` in
    pretrain.py's checkpoint.

    val_names, performers: the name of each test clip and who performs it; gflops: per clip, by
    subset.
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
        return {
            name: value
            for name, value in self._asdict().items()
            if name not in ('train_names', 'gflops')
        }


def write(path: Path, configuration: dict, **numbers) -> None:
    """Write `numbers` as JSON (tensors as lists) with `configuration`, the command line and the
    version of torch.
    """
    record = numbers | {'config': configuration, 'command': sys.argv, 'torch': torch.__version__}
    with replacing(path) as file:
        file.write(json.dumps(record, default=lambda tensor: tensor.tolist()).encode() + b'\n')


def is_finished(path: Path, configuration: dict) -> bool:
    """Whether a results file is finished and of exactly this configuration; prints a line if so."""
    record = read(path)
    finished = 'accuracy' in record and record.get('config') == json.loads(
        json.dumps(configuration)
    )
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
    """Print what the encoder was pre-trained on, if its checkpoint says so, and a line if the data
    here are others.
    """
    if pretrained_on:
        source, modalities = (
            f'{pretrained_on["dataset"]} {pretrained_on["protocol"]}',
            pretrained_on['modalities'],
        )
        print(
            f'pre-trained on {source}, {"+".join(modalities)}, objective '
            f'{pretrained_on["objective"]}, '
            f'recipe {pretrained_on.get("recipe", "published")}'
        )
        if source != f'{dataset} {protocol}':
            print(f'transfer: pre-trained on {source}, evaluated on {dataset} {protocol}')


def data_sha256(folder: Path) -> str:
    """Identifies a folder of arrays: the hash of its manifest or, without one, of its labels and
    frame counts.
    """
    path = Path(folder) / manifest.NAME
    if path.is_file():
        return file_sha256(path)
    small_files = sorted((*path.parent.glob('*_label.pkl'), *path.parent.glob('*_num_frame.npy')))
    return hashlib.sha256(''.join(map(file_sha256, small_files)).encode()).hexdigest()
