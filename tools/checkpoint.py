"""The one reader and writer of checkpoints, in the official code's format, with or without `module.`"""
import os
import pickle
import re
from pathlib import Path

import torch
from torch import nn

from data_gen.cli import InputError
from model.umurl import UmURL

NAME = re.compile(r'checkpoint_(\d+)\.pth\.tar')
PREFIX = 'module.'  # the official code saves the keys of a DistributedDataParallel module


def path_of(folder: Path, epoch: int) -> Path:
    return Path(folder) / f'checkpoint_{epoch:04d}.pth.tar'


def newest(folder: Path) -> Path | None:
    """The checkpoint of the latest epoch in a folder."""
    return max(list_checkpoints(folder), key=lambda path: int(NAME.fullmatch(path.name)[1]), default=None)


def list_checkpoints(folder: Path) -> list[Path]:
    return [path for path in Path(folder).glob('checkpoint_*') if NAME.fullmatch(path.name)]


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, **more) -> None:
    """Write {'epoch', 'state_dict', 'optimizer', …}, whole or not at all. epoch: how many are finished."""
    state = {PREFIX + key: value for key, value in model.state_dict().items()}
    partial = Path(f'{path}.part')
    torch.save({'epoch': epoch, 'state_dict': state, 'optimizer': optimizer.state_dict(), **more}, partial)
    os.replace(partial, path)


def read(path: Path) -> dict:
    """A checkpoint on the CPU, its state dict's keys without `module.`; InputError for any other file."""
    if Path(path).is_dir():
        raise InputError(f'{path} is a folder: name a checkpoint in it')
    if not Path(path).is_file():
        raise InputError(f'{path}: no such checkpoint')
    try:
        saved = torch.load(path, map_location='cpu', weights_only=True)
        state = {key.removeprefix(PREFIX): value for key, value in saved['state_dict'].items()}
    except pickle.UnpicklingError as error:
        raise InputError(f'{path} is not a PyTorch checkpoint, or holds more than tensors and plain values') from error
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(f'{path} is not a whole checkpoint with a state_dict ({type(error).__name__})') from error
    return saved | {'state_dict': state}


def load_into(model: nn.Module, state: dict, path: Path) -> None:
    """Load every tensor or none; InputError for missing, unexpected or misshapen tensors."""
    own = model.state_dict()
    missing, unexpected = own.keys() - state.keys(), state.keys() - own.keys()
    misshapen = [f'{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}' for key in own.keys() & state.keys()
                 if own[key].shape != state[key].shape]
    for problem, keys in (('missing', missing), ('unexpected', unexpected), ('misshapen', misshapen)):
        if keys:
            raise InputError(f'{path} does not fit the model: {len(keys)} {problem} tensors, such as {min(keys)}')
    model.load_state_dict(state)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict, path: Path, weight_decay: float) -> None:
    """Load the optimizer of a checkpoint of ours or of the official code."""
    try:
        for group in saved['optimizer']['param_groups']:
            # Set before loading: where step counts are kept depends on the kernel, which this machine chooses.
            group.update(fused=True, foreach=None, weight_decay=weight_decay)
        optimizer.load_state_dict(saved['optimizer'])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f'{path} has no Adam optimizer for this model, so it cannot be resumed ({error})') from error


def load_model(path: Path) -> tuple[UmURL, dict | None]:
    """The model in a checkpoint, on the CPU in evaluation mode, and the `config` of its pre-training, if recorded.

    Width and depth are read from the tensors. From a fine-tuned model only the backbone is loaded.
    """
    saved = read(path)
    state = saved['state_dict']
    try:
        hidden_size = state['backbone.ma_encoder.pe.pe'].shape[2]
        t_input_size = state['backbone.j_emb.t_embedding.0.weight'].shape[1]
        s_input_size = state['backbone.j_emb.s_embedding.0.weight'].shape[1]
    except (KeyError, IndexError) as error:
        raise InputError(f'{path} does not fit the model: no usable tensor {error}') from error
    num_layer = len({key.split('.')[4] for key in state if key.startswith('backbone.ma_encoder.t_tr.layers.')})
    model = UmURL(t_input_size, s_input_size, hidden_size, 1, num_layer)
    if 'fc.weight' in state:  # fine-tuned: a head in place of the projectors, which no evaluation uses
        backbone = {key.removeprefix('backbone.'): value for key, value in state.items() if not key.startswith('fc.')}
        load_into(model.backbone, backbone, path)
    else:
        load_into(model, state, path)
    return model.eval(), saved.get('config', saved.get('about'))  # 'about': written by version 1
