"""Choosing a device, with the GPUs of a machine made up where there is none."""

import pytest
import torch

from tools import device
from tools.common.cli import InputError


@pytest.fixture
def gpus(monkeypatch):
    """gpus(count, capability): as if torch saw so many; returns the list of devices made current."""

    def pretend(count, capability=(9, 0)):
        current = []
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: capability)
        # the real one takes an index, or a device that has one
        monkeypatch.setattr(
            torch.cuda,
            'set_device',
            lambda chosen: current.append(torch.cuda._utils._get_device_index(chosen)),
        )
        return current

    return pretend


@pytest.mark.parametrize(('name', 'index'), [('cuda', 0), ('cuda:0', 0), ('cuda:1', 1)])
def test_a_gpu_is_made_current(gpus, name, index):
    current = gpus(2)
    assert device.select(name) == torch.device('cuda', index)
    assert current == [index]


@pytest.mark.parametrize('name', ['cuda:2', 'tpu', 'meta', 'cuda:x', ''])
def test_what_is_not_there_is_said(gpus, name):
    gpus(2)
    with pytest.raises(InputError):
        device.select(name)


def test_no_gpu_is_said(gpus):
    gpus(0)
    with pytest.raises(InputError, match='torch sees no GPU here; use --device cpu'):
        device.select('cuda')


def test_auto_precision(gpus):
    cpu, cuda = torch.device('cpu'), torch.device('cuda')
    assert device.amp_dtype('auto', cpu) is None
    for capability, dtype in (((8, 0), torch.bfloat16), ((7, 5), torch.float16)):
        gpus(1, capability)
        assert device.amp_dtype('auto', cuda) == dtype
    assert device.amp_dtype('off', cuda) is None
    assert device.amp_dtype('bf16', cpu) == torch.bfloat16


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
    ],
)
def test_out_of_memory_is_one_line_with_a_remedy(error):
    with (
        pytest.raises(InputError, match='out of memory: use less'),
        device.memory_advice('use less'),
    ):
        raise error


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match='shapes'), device.memory_advice('use less'):
        raise RuntimeError('shapes cannot be multiplied')
