"""The one reader and writer of checkpoints: the release's format, with or without `module.`"""
import os
import pickle
from pathlib import Path

import torch

from data_gen.cli import InputError
from model.umurl import UmURL

PREFIX = 'module.'  # the release saves a DistributedDataParallel module's keys


def path_of(folder, epoch):
    return Path(folder) / f'checkpoint_{epoch:04d}.pth.tar'


def newest(folder):
    """The checkpoint of the latest epoch in a folder, or None."""
    found = sorted(Path(folder).glob('checkpoint_[0-9]*.pth.tar'), key=lambda path: int(path.name[11:-8]))
    return found[-1] if found else None


def save(path, model, optimizer, epoch, **more):
    """Write {'epoch', 'state_dict', 'optimizer', …}: whole or not at all. `model` is the bare module."""
    state = {PREFIX + key: value for key, value in model.state_dict().items()}
    partial = Path(f'{path}.part')
    torch.save({'epoch': epoch, 'state_dict': state, 'optimizer': optimizer.state_dict(), **more}, partial)
    os.replace(partial, path)


def read(path):
    """A checkpoint as a dict on the CPU, its state dict's keys without `module.`; InputError for anything else."""
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


def load_model(path):
    """The UmURL model of a checkpoint, its width and depth read from the tensors, on the CPU, in evaluation mode."""
    state = read(path)['state_dict']
    try:
        hidden_size = state['backbone.ma_encoder.pe.pe'].shape[2]
        t_input_size = state['backbone.j_emb.t_embedding.0.weight'].shape[1]
        s_input_size = state['backbone.j_emb.s_embedding.0.weight'].shape[1]
    except (KeyError, IndexError) as error:
        raise InputError(f'{path} does not fit the model: no usable tensor {error}') from error
    num_layer = len({key.split('.')[4] for key in state if key.startswith('backbone.ma_encoder.t_tr.layers.')})
    model = UmURL(t_input_size, s_input_size, hidden_size, 1, num_layer)
    load_into(model, state, path)
    return model.eval()
