"""The device to compute on, and the precision."""

import ctypes
import platform
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from tools.common.cli import InputError

AMP = {'bf16': torch.bfloat16, 'fp16': torch.float16, 'off': None}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from malloc.h


def select(device: str) -> torch.device:
    """The torch.device for --device, made current; InputError if it does not exist."""
    if not re.fullmatch(r'cpu|cuda(:\d+)?', device):
        raise InputError(f'--device {device}: expected cpu, cuda or cuda:N')
    if device == 'cpu':
        keep_freed_memory()
        return torch.device(device)
    if not torch.cuda.is_available():
        raise InputError('--device cuda: torch sees no GPU here; use --device cpu')
    index = torch.device(device).index or 0  # some functions of torch need the number
    if index >= torch.cuda.device_count():
        raise InputError(f'{device}: there are {torch.cuda.device_count()} GPUs, counted from 0')
    torch.cuda.set_device(index)
    return torch.device('cuda', index)


def name_of(device: torch.device) -> str:
    """The device's model name, for records of measurements."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{cpu_fact("model name") or platform.machine()} CPU, {torch.get_num_threads()} threads'


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step; returning it means faulting in every page
    again.

    Halves the time of augmentation on a CPU. Does nothing without glibc.
    """
    libc = ctypes.CDLL(None) if sys.platform == 'linux' else None
    if hasattr(libc, 'mallopt'):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def cpu_fact(name: str) -> str:
    """What Linux says of this CPU: its 'model name', its 'flags' such as avx512_bf16; '' on other
    systems.
    """
    cpus = Path('/proc/cpuinfo')
    if not cpus.is_file():
        return ''
    fact = re.search(rf'^{name}\s*: (.*)', cpus.read_text(), re.MULTILINE)
    return fact[1] if fact else ''


def amp_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype for --amp, or None for plain float32."""
    if amp == 'auto' and device.type == 'cuda':
        # is_bf16_supported() also says yes where bf16 is only emulated
        amp = 'bf16' if torch.cuda.get_device_capability(device)[0] >= 8 else 'fp16'
    return AMP.get(amp)


def autocast(dtype: torch.dtype | None, device: torch.device) -> torch.autocast:
    """The autocast context for a dtype of `amp_dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


@contextmanager
def memory_advice(advice: str):
    """Turn an out-of-memory error of torch's allocators into one line that says what to do."""
    try:
        yield
    except MemoryError as error:
        raise InputError(f'out of memory: {advice}') from error
    except RuntimeError as error:
        if re.search("out of memory|can't allocate memory", str(error)):
            raise InputError(f'out of memory: {advice}') from error
        raise
