"""The one reader and writer of checkpoints: the release's format, with or without `module.`"""
import os
import pickle
import re
from pathlib import Path

import torch

from data_gen.cli import InputError
from model.umurl import UmURL

NAME = re.compile(r'checkpoint_(\d+)\.pth\.tar')
PREFIX = 'module.'  # the release saves a DistributedDataParallel module's keys


def path_of(folder, epoch):
    return Path(folder) / f'checkpoint_{epoch:04d}.pth.tar'


def newest(folder):
    """The checkpoint of the latest epoch in a folder, or None."""
    return max(every(folder), key=lambda path: int(NAME.fullmatch(path.name)[1]), default=None)


def every(folder):
    """All checkpoints in a folder."""
    return [path for path in Path(folder).glob('checkpoint_*') if NAME.fullmatch(path.name)]


def save(path, model, optimizer, epoch, **more):
    """Write {'epoch', 'state_dict', 'optimizer', …}: whole or not at all. `model` is the bare module."""
    state = {PREFIX + key: value for key, value in model.state_dict().items()}
    partial = Path(f'{path}.part')
    torch.save({'epoch': epoch, 'state_dict': state, 'optimizer': optimizer.state_dict(), **more}, partial)
    os.replace(partial, path)


def read(path):
    """A checkpoint as a dict on the CPU, its state dict's keys without `module.`; InputError for anything else."""
    if Path(path).is_dir():
        raise InputError(f'{path} is a folder: name a checkpoint in it')
    if not Path(path).is_file():
        raise InputError(f'{path}: no such checkpoint')
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
        state = {key.removeprefix(PREFIX): value for key, value in checkpoint['state_dict'].items()}
    except pickle.UnpicklingError as error:
        raise InputError(f'{path} is not a PyTorch checkpoint, or holds more than tensors and plain values') from error
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(f'{path} is not a whole checkpoint with a state_dict ({type(error).__name__})') from error
    return checkpoint | {'state_dict': state}


def load_into(model, state, path):
    """Load every tensor or none: a missing, unexpected or misshapen one is an InputError."""
    own = model.state_dict()
    missing, unexpected = own.keys() - state.keys(), state.keys() - own.keys()
    wrong = [f'{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}' for key in own.keys() & state.keys()
             if own[key].shape != state[key].shape]
    for what, keys in (('missing', missing), ('unexpected', unexpected), ('misshapen', wrong)):
        if keys:
            raise InputError(f'{path} does not fit the model: {len(keys)} {what} tensors, such as {min(keys)}')
    model.load_state_dict(state)


def load_optimizer(optimizer, saved, path, weight_decay):
    """Load the optimizer of a checkpoint, from here or from the release; returns its number of epochs."""
    try:
        for group in saved['optimizer']['param_groups']:
            # Before loading: where the step counts go depends on the kernel, and that is this machine's choice.
            group.update(fused=True, foreach=None, weight_decay=weight_decay)
        optimizer.load_state_dict(saved['optimizer'])
        return int(saved['epoch'])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f'{path} has no epoch and Adam optimizer of this model to go on with ({error})') from error


def move_aside(folder):
    """Move an earlier run's checkpoints and logs into a folder of their own; its path, None if there are none."""
    files = [*every(folder), *(path for name in ('log.jsonl', 'tensorboard') if (path := folder / name).exists())]
    if not every(folder):
        return None
    number = 1
    while (target := folder / f'earlier_{number}').exists():
        number += 1
    target.mkdir()
    for path in files:
        path.rename(target / path.name)
    return target


def load_model(path):
    """The UmURL model of a checkpoint, its width and depth read from the tensors, on the CPU, in evaluation mode.

    model.about is what pretrain.py notes of a run, or None. Of a fine-tuned model the backbone alone is loaded.
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
    model.about = saved.get('about')
    return model.eval()
