"""Where a run of pretrain.py starts: from a checkpoint, or afresh with an earlier run moved aside."""

import sys
from dataclasses import replace
from pathlib import Path

from tools import checkpoint
from tools.common.cli import InputError
from tools.common.files import move_aside
from tools.distributed import rank
from tools.training.log import LOG_FILES
from tools.training.run_config import NEVER, SILENTLY, UNFINISHED, RunConfig, changed


def read_resumable(resume: str, folder: Path) -> tuple[Path | None, dict]:
    """Path and content of the checkpoint to resume from, of ours or of the official code, or (None,
    {'epoch': 0}).
    """
    if resume in ('', 'none'):  # the official scripts pass --resume ''
        return None, {'epoch': 0}
    if resume == 'auto':
        path, saved = checkpoint.read_furthest(folder, quiet=rank() != 0)
    else:
        path, saved = resume, checkpoint.read(resume)
    if path is None:
        return None, {'epoch': 0}
    checkpoint.progress_of(path, saved)
    return path, saved


def continued(config: RunConfig, recorded: dict, path: Path | None, epoch: int) -> RunConfig:
    """This run's configuration as the continuation of a checkpoint, whose batch size it keeps.

    recorded: the checkpoint's configuration; epoch: how many epochs it was trained for. Prints a
    note about settings that change; InputError if a setting differs that must not.
    """
    if not recorded:  # a new run, or one of the official code
        return config
    batch_size = recorded.get('batch_size')
    if config.batch_size is None and isinstance(batch_size, int):
        config = replace(config, batch_size=batch_size)
    for name in sorted(recorded.keys() - config.entries().keys()):
        if rank() == 0:
            print(f'note: {name} {recorded[name]} of {path} is unknown here', file=sys.stderr)
    finished = epoch == config.epochs
    for name, before, now, when in changed(recorded, config):
        if when == NEVER or when == UNFINISHED and finished:
            what = 'other arrays' if name == 'data' else difference_of(name, before, now)
            raise InputError(f'{path} was trained with {what}: --resume none starts a new run')
        if when != SILENTLY and rank() == 0:
            print(f'note: {flag_of(name)} was {before} until now, and is {now}', file=sys.stderr)
    return config


def difference_of(name: str, before, now) -> str:
    """How a setting differs, by its flags: '--lr 0.1, not 0.2'."""
    if name != 'weights':
        return f'{flag_of(name)} {before}, not {now}'
    weights = {f'{term}_weight': (before.get(term, 0), now.get(term, 0)) for term in before | now}
    return ' and '.join(
        f'{flag_of(term)} {old:g}, not {new:g}'
        for term, (old, new) in weights.items()
        if old != new
    )


def flag_of(name: str) -> str:
    """The flag that sets an entry of a recorded configuration."""
    names = {
        'dataset': '--pre-dataset',
        'processes': 'the number of processes',
        'draws_version': 'the version of the random draws',
    }
    return names.get(name, f'--{name.replace("_", "-")}')


def start_folder(folder: Path, path: Path | None, epoch: int, step: int) -> None:
    """Print where the run resumes, or move an earlier run's files aside."""
    if rank() != 0:
        return
    if path is not None:
        at = f'epoch {epoch}, step {step}' if step else f'epoch {epoch}'
        print(f'resuming from {path} at {at}')
    elif checkpoints := checkpoint.list_checkpoints(folder):
        newest = checkpoint.newest(folder)
        logs = [folder / name for name in LOG_FILES if (folder / name).exists()]
        target = move_aside(*checkpoints, *logs)
        print(
            f'note: the earlier run was moved to {target} (--resume {target / newest.name} '
            'continues it)',
            file=sys.stderr,
        )
