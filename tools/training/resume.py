"""Where a run of pretrain.py starts: from a checkpoint, or afresh with an earlier run moved aside."""

import sys
from pathlib import Path

from tools import checkpoint
from tools.common.cli import InputError
from tools.common.files import move_aside
from tools.distributed import rank
from tools.training.log import LOG_FILES

# What a run cannot change when it resumes, and what it can.
FIXED = (
    'recipe',
    'objective',
    'modalities',
    'weights',
    'crop',
    'crop_frames',
    'shear',
    'dataset',
    'protocol',
    'hidden_size',
    'seed',
    'batch_size',
)
FREE = ('epochs', 'lr', 'schedule', 'cos', 'weight_decay')


def read_resumable(resume: str | None, folder: Path, config: dict) -> tuple[Path | None, dict]:
    """Path and content of the checkpoint to resume from, of ours or of the official code, or (None,
    {'epoch': 0}).

    Prints a note about settings that change; InputError if one that cannot change was another.
    """
    if resume == 'auto':
        path, saved = checkpoint.read_furthest(folder, quiet=rank() != 0)
    else:
        path, saved = resume, checkpoint.read(resume) if resume else None
    if path is None:
        return None, {'epoch': 0}
    epoch, _ = checkpoint.progress_of(path, saved)
    recorded = checkpoint.config_of(path, saved) or {}
    finished = epoch == config['epochs']
    for name, value in config.items():
        before = recorded.get(name)
        if before is None or before == value or name == 'overrides':
            continue
        if name in FIXED or name == 'data' or finished and name in FREE:
            what = 'other arrays' if name == 'data' else f'{flag_of(name)} {before}, not {value}'
            raise InputError(f'{path} was trained with {what}: --resume none starts a new run')
        if rank() == 0 and name != 'epochs':
            print(f'note: {flag_of(name)} was {before} until now, and is {value}', file=sys.stderr)
    return path, saved


def flag_of(name: str) -> str:
    """The flag that sets an entry of `config`."""
    names = {
        'dataset': '--pre-dataset',
        'weights': 'loss weights',
        'processes': 'the number of processes',
    }
    return names.get(name, f'--{name.replace("_", "-")}')


def restore(saved: dict, path: Path, weight_decay: float, model, optimizer, loss_scaler) -> None:
    """Load model, optimizer and loss scaler from a checkpoint."""
    checkpoint.load_weights(model, saved, path)
    checkpoint.load_optimizer(optimizer, saved, path, weight_decay)
    if loss_scaler.is_enabled() and saved.get('scaler'):
        loss_scaler.load_state_dict(saved['scaler'])


def start_folder(folder: Path, resume_path, first_epoch: int, first_step: int) -> None:
    """Say what the run continues from, or move an earlier run's files aside."""
    if rank() != 0:
        return
    if resume_path is not None:
        print(
            f'resuming from {resume_path} at epoch {first_epoch}'
            + f', step {first_step}' * (first_step > 0)
        )
    elif checkpoints := checkpoint.list_checkpoints(folder):
        newest = checkpoint.newest(folder)
        logs = [folder / name for name in LOG_FILES if (folder / name).exists()]
        target = move_aside(*checkpoints, *logs)
        print(
            f'note: the earlier run was moved to {target} (--resume {target / newest.name} '
            'continues it)',
            file=sys.stderr,
        )
