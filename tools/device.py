"""The device to compute on, and how precisely."""
import ctypes
import platform
import re
import sys
from pathlib import Path

import torch

from data_gen.cli import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def select(device):
    """The torch.device of --device, made ready; InputError where it is not there."""
    if not re.fullmatch(r'cpu|cuda(:\d+)?', device):
        raise InputError(f'--device {device}: expected cpu, cuda or cuda:N')
    device = torch.device(device)
    if device.type == 'cuda':
        if not torch.cuda.is_available():
            raise InputError('--device cuda: torch sees no GPU here; use --device cpu')
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(f'{device}: there are {torch.cuda.device_count()} GPUs, counted from 0')
        device = torch.device('cuda', device.index or 0)  # some functions of torch want the number
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    return device


def name_of(device):
    """A device in words, for records of what was measured where."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cpus = Path('/proc/cpuinfo')
    model = re.search(r'model name\s*: (.*)', cpus.read_text()) if cpus.is_file() else None
    return f'{model[1] if model else platform.machine()} CPU, {torch.get_num_threads()} threads'


def keep_freed_memory():
    """Let glibc keep freed memory for the next step: handing it back means faulting in every page of it again.

    Halves the time of augmentation on a CPU. Elsewhere than on glibc nothing happens.
    """
    if sys.platform == 'linux':
        libc = ctypes.CDLL(None)
        if hasattr(libc, 'mallopt'):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, -1)


DTYPES = {'float32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def amp_dtype(amp, device):
    """The autocast dtype for --amp, or None for plain float32."""
    if amp == 'auto':
        if device.type != 'cuda':
            return None
        # is_bf16_supported() also says yes where bf16 is only emulated
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return None if amp == 'off' else DTYPES[amp]


def autocast(dtype, device):
    """The autocast context of a dtype from `amp_dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
