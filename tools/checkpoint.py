"""The one reader and writer of checkpoints: written in the official code's format, read in other
wrappings too.
"""

import copy
import re
import sys
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from model.umurl import MAX_LENGTH, SHORT_NAMES, UmURL, short_name
from tools.common.cli import InputError
from tools.common.files import check_zip, replacing

NAME = re.compile(r'checkpoint_(\d+)\.pth\.tar')
LAST = 'checkpoint_last.pth.tar'
PREFIX = 'module.'  # the official code saves the keys of a DistributedDataParallel module
# of DistributedDataParallel, torch.compile, Lightning
PREFIXES = re.compile(r'^((module|_orig_mod|model)\.)+')
EMBEDDING = re.compile(r'backbone\.(\w+)_emb\.')  # of one modality
WRAPPINGS = ('state_dict', 'model_state_dict', 'model')  # keys under which the tensors may be
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
ADAM_OPTIONS = {
    'params',
    'lr',
    'betas',
    'eps',
    'weight_decay',
    'amsgrad',
    'maximize',
    'foreach',
    'capturable',
    'momentum',
}


def path_of(folder: Path, epoch: int) -> Path:
    return Path(folder) / f'checkpoint_{epoch:04d}.pth.tar'


def epoch_of(kept: Path) -> int:
    return int(NAME.fullmatch(kept.name)[1])


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most finished epochs in a folder; a kept one, if the last one has as
    many, or is damaged.
    """
    found = list_checkpoints(folder)
    if len(found) > 1 and found[0].name == LAST:
        with suppress(InputError):
            epochs, _ = progress_of(found[0], read(found[0], mmap=True))
            if epochs > 1 + epoch_of(found[-1]):
                return found[0]
    return found[-1] if found else None


def read_furthest(folder: Path, quiet: bool = False) -> tuple[Path, dict] | tuple[None, None]:
    """Path and content of the checkpoint that is furthest in training; (None, None) where there is
    none.

    Prints a note about damaged files and passes them over; InputError if there is nothing else.
    """
    found, problem = [], None
    for path in reversed(list_checkpoints(folder)):
        if found and path.name != LAST:
            continue  # an older one
        try:
            found.append((path, read(path)))
        except InputError as error:
            problem = error
            if not quiet:
                print(f'note: left out: {error}', file=sys.stderr)
    if problem and not found:
        raise InputError(
            f'{problem}; {folder} has no other checkpoint: start afresh with --resume none'
        )
    return max(found, key=lambda pair: progress_of(*pair), default=(None, None))


def progress_of(path: Path, saved: dict) -> tuple[int, int]:
    """Finished epochs, and finished steps of the next one; InputError if the checkpoint does not
    say.
    """
    epoch, step = saved.get('epoch'), saved.get('step', 0)
    for number in (epoch, step):
        if type(number) is not int or number < 0:
            raise InputError(
                f'{path} does not say how many epochs it was trained for, so it cannot be resumed'
            )
    return epoch, step


def list_checkpoints(folder: Path) -> list[Path]:
    """The last checkpoint, if any, and the kept ones, the latest epoch at the end."""
    folder = Path(folder)
    kept = [path for path in folder.glob('checkpoint_*') if NAME.fullmatch(path.name)]
    kept.sort(key=epoch_of)
    last = folder / LAST
    return [last, *kept] if last.is_file() else kept


def save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, **more
) -> None:
    """Write {'epoch', 'state_dict', 'optimizer', 'num_head', …}, whole or not at all. epoch: how
    many are finished. num_head: of the encoder, which no tensor tells.
    """
    state = model.state_dict()
    content = {
        'epoch': epoch,
        'state_dict': {PREFIX + key: value for key, value in state.items()},
        'optimizer': adam_state(optimizer),
        'num_head': model.backbone.num_head,
    }
    try:
        with replacing(path) as file:
            torch.save(content | more, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise InputError(
            f'{path} could not be written (is the disk full?), so the earlier file is kept: {error}'
        ) from error


def adam_state(optimizer: torch.optim.Optimizer) -> dict:
    """The optimizer as torch 1.12 wrote it, so that the official code can resume it: without the
    options of later versions, and with step counts on the CPU.
    """
    saved = optimizer.state_dict()
    for group in saved['param_groups']:
        for option in group.keys() - ADAM_OPTIONS:
            del group[option]
    for index, values in saved['state'].items():
        if 'step' in values:
            saved['state'][index] = values | {'step': values['step'].cpu()}
    return saved


def read(path: Path, mmap: bool = False) -> dict:
    """A checkpoint on the CPU as {'state_dict', …}, its keys without prefixes, its numbers checked.

    mmap: a tensor takes memory only once it is used, and must not be used after the file changes.
    InputError says what another file is, or what is wrong. A file in torch's old format (before
    1.6) has no checksums, and cannot be mapped.
    """
    if Path(path).is_dir():
        raise InputError(f'{path} is a folder: name a checkpoint in it')
    if not Path(path).is_file():
        raise InputError(f'{path}: no such checkpoint')
    try:
        check_zip(path)
        if mmap and zipfile.is_zipfile(path):
            saved = load_mapped(path)
        else:
            saved = torch.load(path, map_location='cpu', weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise almost anything
        raise InputError(f'{path} is {describe_refused(path, error)}') from error
    if not isinstance(saved, dict):
        raise InputError(
            f'{path} holds a {type(saved).__name__}, not a checkpoint with a state_dict'
        )
    tensors, more = saved, {}
    for name in WRAPPINGS:
        if isinstance(saved.get(name), dict):
            tensors, more = saved[name], saved
            break
    if not all(isinstance(key, str) and torch.is_tensor(value) for key, value in tensors.items()):
        raise InputError(
            f'{path} has no state_dict of tensors; its keys: {", ".join(map(str, [*tensors][:5]))}'
        )
    check_tensors(tensors, path)
    state = {PREFIXES.sub('', key): value for key, value in tensors.items()}
    if 'ma_encoder.pe.pe' in state:  # the backbone alone
        state = {f'backbone.{key}': value for key, value in state.items()}
    return more | {'state_dict': state}


def load_mapped(path: Path) -> dict:
    """torch.load on the CPU that maps the file; InputError if a record is not as long as its
    storage, which torch.load then does not compare.
    """
    storages = []

    def keep(storage, location):
        storages.append(storage)
        return storage

    saved = torch.load(path, map_location=keep, weights_only=True, mmap=True)
    storages.sort(key=lambda storage: storage.data_ptr())
    with zipfile.ZipFile(path) as file:
        records = sorted(file.infolist(), key=lambda record: record.header_offset)
    lengths = [record.file_size for record in records if '/data/' in record.filename]
    if list(filter(None, lengths)) != [storage.nbytes() for storage in storages if len(storage)]:
        raise InputError(f'{path} is damaged: its records are not as long as its tensors')
    return saved


def check_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """InputError for a tensor that cannot be a weight."""
    for name, tensor in tensors.items():
        if problem := problem_of(name, tensor):
            raise InputError(f'{path}: the tensor {name} {problem}')


def problem_of(name: str, tensor: torch.Tensor) -> str | None:
    """What keeps a tensor from being a weight: dense, floating, finite; BatchNorm's counters are
    int64.
    """
    if tensor.layout != torch.strided or tensor.device.type != 'cpu':
        return 'is not an ordinary dense tensor'
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        return 'is larger than what the file holds of it'
    if name.endswith('num_batches_tracked') and tensor.dtype == torch.int64:
        return None
    if tensor.dtype not in FLOATS:
        return f'is {tensor.dtype}, where floating numbers belong'
    if not tensor.sum(dtype=torch.float32).isfinite():  # a tenth of the time of isfinite().all()
        return 'has numbers that are not finite'
    return None


def config_of(path: Path, saved: dict) -> dict | None:
    """The `config` that pretrain.py recorded, if any; InputError if it is something else."""
    config = saved.get('config')
    if config is None:
        return None
    kinds = {'dataset': str, 'protocol': str, 'objective': str, 'modalities': list}
    if not isinstance(config, dict) or not all(
        isinstance(config.get(name), kind) for name, kind in kinds.items()
    ):
        raise InputError(f'{path}: its config is not one that pretrain.py writes')
    return config


def describe_refused(path: Path, error: Exception) -> str:
    """Why torch.load refused a file, as the end of a sentence."""
    with open(path, 'rb') as file:
        start = file.read(200).lstrip().lower()
    if start.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer, not the checkpoint itself: fetch it with git lfs pull'
    if start.startswith((b'<!doctype', b'<html')):
        return 'a web page, not a checkpoint: the download went wrong'
    if refused := re.search(r'GLOBAL ([\w.]+)', str(error)):
        return (
            f'not loaded, because it holds a {refused[1]}, which could run code: save the tensors '
            "alone, with torch.save({'state_dict': model.state_dict()}, FILE)"
        )
    return f'not a PyTorch checkpoint, or not a whole one ({type(error).__name__})'


def check_shapes(model: nn.Module, state: dict, path: Path) -> None:
    """InputError for missing, unexpected or misshapen tensors."""
    own = model.state_dict()
    problems = {
        'missing': own.keys() - state.keys(),
        'unexpected': state.keys() - own.keys(),
        'misshapen': {
            f'{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}'
            for key in own.keys() & state.keys()
            if own[key].shape != state[key].shape
        },
    }
    for problem, keys in problems.items():
        if keys:
            raise InputError(
                f'{path} does not fit the model: {len(keys)} {problem} tensors, such as {min(keys)}'
            )


def load_optimizer(
    optimizer: torch.optim.Optimizer, saved: dict, path: Path, weight_decay: float
) -> None:
    """Load the optimizer of a checkpoint of ours or of the official code."""
    try:
        for index, values in saved['optimizer']['state'].items():
            step = torch.as_tensor(values['step'], dtype=torch.float32)  # before torch 1.12 an int
            tensors = values | {'step': step}
            check_tensors(
                {f'{index} {name} of the optimizer': tensors[name] for name in tensors}, path
            )
        for group in saved['optimizer']['param_groups']:
            # Set before loading: where step counts are kept depends on the kernel, which this
            # machine chooses.
            group.update(fused=True, foreach=None, weight_decay=weight_decay)
        optimizer.load_state_dict(saved['optimizer'])
        for parameter, values in optimizer.state.items():
            for moment in (values['exp_avg'], values['exp_avg_sq']):
                if moment.shape != parameter.shape:
                    raise ValueError(f'moments of shape {tuple(moment.shape)}')
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(
            f'{path} has no Adam optimizer for this model, so it cannot be resumed ({error})'
        ) from error


def load_weights(model: UmURL, saved: dict, path: Path) -> None:
    """Load a checkpoint into a model; InputError if they do not fit."""
    num_head = saved.get('num_head', 1)
    if num_head != model.backbone.num_head:
        raise InputError(
            f'{path} does not fit the model: attention heads {num_head}, not '
            f'{model.backbone.num_head}'
        )
    check_shapes(model, saved['state_dict'], path)
    model.load_state_dict(saved['state_dict'])


def load_model(path: Path, modalities=()) -> tuple[UmURL, dict | None]:
    """The model in a checkpoint, on the CPU in evaluation mode, and the `config` of its
    pre-training, if recorded.

    Of a fine-tuned model only the backbone is loaded: the projectors stay on the meta device, as
    shapes. InputError if it lacks one of `modalities`.
    """
    saved = read(path, mmap=True)
    state = saved['state_dict']
    whole = any('_projector.' in key for key in state)  # else fine-tuned, or the backbone alone
    if not whole:
        state = {
            key.removeprefix('backbone.'): value
            for key, value in state.items()
            if not key.startswith('fc.')
        }
    # Shapes first, without memory: a hostile file may ask for a model of any size.
    with torch.device('meta'):
        model = UmURL(**model_settings(saved, path))
    loaded = model if whole else model.backbone
    check_shapes(loaded, state, path)
    check_modalities(modalities, model.backbone.modalities, path)
    own = loaded.state_dict()
    state = {key: value.to(own[key].dtype).contiguous() for key, value in state.items()}
    loaded.load_state_dict(state, assign=True)
    model.backbone = copy.deepcopy(model.backbone)  # the file may change while it is used
    return model.eval(), config_of(path, saved)


def check_modalities(modalities: Iterable[str], held: Sequence[str], path: Path) -> None:
    """InputError if a checkpoint that holds some modalities lacks one of these."""
    for modality in modalities:
        if modality not in held:
            raise InputError(f'{path} has no {modality}: choose from --modalities {" ".join(held)}')


def model_settings(saved: dict, path: Path) -> dict:
    """The arguments of UmURL that a checkpoint tells: sizes, depth and modalities by its tensors,
    and the number of heads, which is one where none is recorded.
    """
    state = saved['state_dict']
    modalities = modalities_in(state)
    try:
        length, hidden_size = state['backbone.ma_encoder.pe.pe'].shape[1:]
        embedding = f'backbone.{short_name(modalities[0])}_emb'
        t_input_size = state[f'{embedding}.t_embedding.0.weight'].shape[1]
        s_input_size = state[f'{embedding}.s_embedding.0.weight'].shape[1]
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f'{path} does not fit the model: no usable tensor {error}. It has {len(state)} '
            f'tensors, such as {", ".join([*state][:3])}'
        ) from error
    if length != MAX_LENGTH:  # the model computes as many
        raise InputError(f'{path} does not fit the model: {length} positions, not {MAX_LENGTH}')
    num_head = saved.get('num_head', 1)
    if type(num_head) is not int or num_head < 1 or hidden_size % num_head:
        raise InputError(
            f'{path}: {num_head} attention heads do not share a width of {hidden_size}'
        )
    layers = 'backbone.ma_encoder.t_tr.layers.'
    num_layer = len({key.split('.')[4] for key in state if key.startswith(layers)})
    return {
        't_input_size': t_input_size,
        's_input_size': s_input_size,
        'hidden_size': hidden_size,
        'num_head': num_head,
        'num_layer': num_layer,
        'modalities': modalities,
    }


def modalities_in(state: dict) -> list[str]:
    """The modalities that a state dict has an embedding of."""
    full_names = {short: name for name, short in SHORT_NAMES.items()}
    found = [match[1] for match in map(EMBEDDING.match, state) if match]
    return [full_names.get(name, name) for name in dict.fromkeys(found)]
