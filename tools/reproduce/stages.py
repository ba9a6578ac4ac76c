"""The stages of a reproduction: for each one the command a user would type, and where its result
is.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from data_gen.protocols import DATASETS, PROTOCOLS
from tools import checkpoint, results
from tools.common.cli import InputError
from tools.common.files import file_sha256
from tools.demo import run_command

# Data sets and protocols, named like the folders of script_pretrain.sh: 'ntu60_xsub': ('ntu60',
# 'cross_subject').
NAMES = {
    f'{dataset}_{PROTOCOLS[protocol]}'.removesuffix('_split'): (dataset, protocol)
    for dataset in DATASETS
    for protocol in DATASETS[dataset].protocols
}
ABLATIONS = ('baseline', 'no-intra', 'no-inter')
LABEL_SHARES = (0.01, 0.05, 0.1, 0.2)  # of semi-supervised evaluation
FINETUNE = ['action_recognition.py', '--finetune']
SCRIPTS = {
    'pretrain': ['pretrain.py', '--resume', 'auto'],
    'probe': ['action_recognition.py', '--all-modalities'],
    'retrieval': ['action_retrieval.py', '--all-modalities'],
    'semi': FINETUNE,
    'finetune': FINETUNE,
    'transfer': FINETUNE,
    'ablation': ['action_recognition.py'],
}


class Stage(NamedTuple):
    """A command that pre-trains an encoder (results is None) or evaluates it on data set `name`."""

    kind: str  # one of SCRIPTS
    name: str
    encoder_folder: Path
    command: list
    results: Path | None = None
    row: str | None = None  # of the tables, for transfer and ablation

    def run(self) -> float:
        """Run the command, which skips what is finished. Returns the seconds it took."""
        if self.results is None:
            several = torch.cuda.device_count() > 1
            launcher = ['-m', 'tools.launch', '--standalone'] if several else []
            return run_command(*launcher, *self.command)
        encoder, _ = finished_encoder(self.encoder_folder)
        if encoder is None:
            missing = 'ablation' if self.kind == 'ablation' else 'pretrain'
            raise InputError(
                f'{self.encoder_folder} has no finished encoder: add {missing} to --stages'
            )
        return run_command(*self.command, '--pretrained', encoder)

    def record(self) -> dict:
        """The results file; empty if it is missing, unfinished, or not from the encoder that is in
        the folder.
        """
        record = results.read(self.results)
        encoder, sha256 = finished_encoder(self.encoder_folder)
        if encoder is None or record.get('config', {}).get('checkpoint_sha256') != sha256:
            return {}
        return record if 'accuracy' in record else {}


def plan(
    name: str,
    seed: int,
    transfer_to: Iterable[str],
    flags: dict[str, list[str]],
    data_root: Path,
    checkpoints: Path,
    out: Path,
) -> list[Stage]:
    """The stages of one data set and seed, in the order they run. flags: what users add to the
    command of a kind.
    """
    shared = ['--data-root', data_root, '--seed', seed]

    def pretraining(kind: str, objective: str, folder: Path) -> Stage:
        command = [*SCRIPTS['pretrain'], *flags['pretrain']]
        command += ['--pre-dataset', *dataset_and_protocol(name), *shared]
        command += ['--objective', objective, '--checkpoint-path', folder]
        return Stage(kind, name, folder, command)

    def evaluation(kind: str, target: str, folder: Path, row: str | None = None) -> Stage:
        stem = '_'.join([kind, *row.split()]) if row else kind
        path = out / target / f'seed{seed}' / f'{stem}.json'
        added = flags['probe' if kind == 'ablation' else kind]
        command = [*SCRIPTS[kind]]
        if kind == 'semi' and '--data-ratio' not in added:
            command += ['--data-ratio', *LABEL_SHARES]
        command += [*added, '--finetune-dataset', *dataset_and_protocol(target)]
        command += [*shared, '--results', path, '--skip-finished']
        return Stage(kind, target, folder, command, path, row)

    suffix = f'_seed{seed}' if seed else ''
    folder = checkpoints / f'{name}{suffix}'
    stages = [pretraining('pretrain', 'umurl', folder)]
    for kind in ('probe', 'retrieval', 'semi', 'finetune'):
        stages.append(evaluation(kind, name, folder))
    if NAMES[name][1] in ('cross_subject', 'own_split'):
        for target in transfer_to:
            if target != name:
                stages.append(evaluation('transfer', target, folder, f'from {name}'))
    for objective in ABLATIONS:
        folder = checkpoints / f'{name}_{objective}{suffix}'
        stages.append(pretraining('ablation', objective, folder))
        stages.append(evaluation('ablation', name, folder, objective))
    return stages


def dataset_and_protocol(name: str) -> list[str]:
    """The end of the flags that choose a data set."""
    dataset, protocol = NAMES[name]
    return [dataset, '--protocol', protocol]


@functools.cache
def finished_encoder(folder: Path) -> tuple[Path | None, str | None]:
    """The newest checkpoint of a finished run and its SHA-256, read once: it takes up to a
    gigabyte.
    """
    path = checkpoint.newest(folder)
    saved = checkpoint.read(path, mmap=True) if path else {}
    config = saved.get('config', {})  # the official code records none
    if path is None or saved.get('epoch', 0) < config.get('epochs', 0):
        return None, None
    return path, file_sha256(path)
