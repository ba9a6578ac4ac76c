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
FINETUNE = ['action_recognition.py', '--finetune']
SCRIPTS = {
    'pretrain': ['pretrain.py', '--resume', 'auto'],
    'probe': ['action_recognition.py', '--all-modalities'],
    'retrieval': ['action_retrieval.py', '--all-modalities'],
    'semi': [*FINETUNE, '--data-ratio', 0.01, 0.05, 0.1, 0.2],
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
            gpus = torch.cuda.device_count()
            launcher = (
                ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
                if gpus > 1
                else []
            )
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
        record, (encoder, sha256) = (
            results.read(self.results),
            finished_encoder(self.encoder_folder),
        )
        same = encoder and record.get('config', {}).get('checkpoint_sha256') == sha256
        return record if same and 'accuracy' in record else {}


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
    main_evaluations = [(kind, name, None) for kind in ('probe', 'retrieval', 'semi', 'finetune')]
    if NAMES[name][1] in ('cross_subject', 'own_split'):
        main_evaluations += [
            ('transfer', target, f'from {name}') for target in transfer_to if target != name
        ]
    stages = []
    for objective in ('umurl', *ABLATIONS):
        ablation = objective != 'umurl'
        folder = checkpoints / '_'.join(
            [name, *[objective] * ablation, *[f'seed{seed}'] * (seed != 0)]
        )
        stages.append(
            Stage(
                'ablation' if ablation else 'pretrain',
                name,
                folder,
                [
                    *SCRIPTS['pretrain'],
                    '--batch-size',
                    batch_size(name),
                    *flags['pretrain'],
                    '--pre-dataset',
                    NAMES[name][0],
                    '--protocol',
                    NAMES[name][1],
                    *shared,
                    '--objective',
                    objective,
                    '--checkpoint-path',
                    folder,
                ],
            )
        )
        for kind, target, row in [('ablation', name, objective)] if ablation else main_evaluations:
            path = out / target / f'seed{seed}' / ('_'.join([kind, *(row or '').split()]) + '.json')
            stages.append(
                Stage(
                    kind,
                    target,
                    folder,
                    [
                        *SCRIPTS[kind],
                        *flags['probe' if ablation else kind],
                        '--finetune-dataset',
                        NAMES[target][0],
                        '--protocol',
                        NAMES[target][1],
                        *shared,
                        '--results',
                        path,
                        '--skip-finished',
                    ],
                    path,
                    row,
                )
            )
    return stages


def batch_size(name: str) -> int:
    """The published one of pre-training. For PKU-MMD, where none is published, one that gives
    enough steps.
    """
    return 512 if name == 'ntu60_xsub' else 128 if name.startswith('pku') else 1024


@functools.cache
def finished_encoder(folder: Path) -> tuple[Path | None, str | None]:
    """The newest checkpoint of a finished run and its SHA-256, read once: it takes up to a
    gigabyte.
    """
    path = checkpoint.newest(folder)
    saved = checkpoint.read(path) if path else {}
    config = saved.get('config', {})  # the official code records none
    if path is None or saved.get('epoch', 0) < config.get('epochs', 0):
        return None, None
    return path, file_sha256(path)
