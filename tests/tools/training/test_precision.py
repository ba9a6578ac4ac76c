"""The precision that training chooses, on CPUs that are made up."""

from types import SimpleNamespace

import pytest
import torch

from tools.training import precision

CPU = torch.device('cpu')


@pytest.fixture
def cpu(monkeypatch):
    """cpu(flags, onednn): as if the CPU had these flags, and oneDNN an accurate product or not."""

    def pretend(*flags, onednn=True):
        monkeypatch.setattr(precision, 'cpu_fact', lambda name: ' '.join(['avx2', *flags]))
        monkeypatch.setattr(precision, 'use_onednn', lambda: onednn)

    return pretend


@pytest.mark.parametrize(
    ('flags', 'amp', 'width', 'expected', 'why'),
    [
        ([], 'auto', 1024, (None, 'off', 'torch'), 'float32 (width 1024, cpu)'),
        (
            ['avx512_bf16'],
            'auto',
            1024,
            (torch.bfloat16, 'bf16', 'onednn'),
            'bf16 (width 1024, cpu with avx512_bf16), float32 products by oneDNN',
        ),
        (['amx_bf16'], 'auto', 2048, (torch.bfloat16, 'bf16', 'onednn'), 'cpu with amx_bf16'),
        (['avx512_bf16'], 'auto', 1022, (None, 'off', 'torch'), 'float32 (width 1022, cpu)'),
        (
            ['avx512_bf16'],
            'off',
            1024,
            (None, 'off', 'onednn'),
            'float32 (--amp off), float32 products by oneDNN',
        ),
        ([], 'bf16', 8, (torch.bfloat16, 'bf16', 'torch'), 'bf16 (--amp bf16)'),
    ],
)
def test_the_choice_on_a_cpu(cpu, flags, amp, width, expected, why):
    cpu(*flags)
    dtype, recorded, text = precision.choose_precision(amp, CPU, width, {})
    assert (dtype, recorded['amp'], recorded['products']) == expected
    assert why in text


def test_a_product_that_rounds_is_not_used(cpu):
    cpu('amx_bf16', onednn=False)
    assert precision.choose_precision('auto', CPU, 1024, {})[1] == {
        'amp': 'bf16',
        'products': 'torch',
    }


def test_a_resumed_run_keeps_its_precision(cpu):
    cpu('avx512_bf16')
    before = {'device': 'cpu', 'amp': 'off', 'products': 'torch'}
    dtype, recorded, text = precision.choose_precision('auto', CPU, 1024, before)
    assert (dtype, recorded) == (None, {'amp': 'off', 'products': 'torch'})
    assert text == 'float32 (as before)'
    cpu()
    before |= {'amp': 'bf16', 'products': 'onednn'}
    assert precision.choose_precision('auto', CPU, 8, before)[1] == {
        'amp': 'bf16',
        'products': 'onednn',
    }
    assert precision.choose_precision('off', CPU, 8, before)[2].startswith(
        'float32 (--amp off), until now bf16'
    )
    for elsewhere in (
        {'device': 'cuda'},
        {'amp': ['bf16']},
        {'amp': 'bf8'},
    ):  # of another device, or damaged
        assert precision.choose_precision('auto', CPU, 8, before | elsewhere)[1]['amp'] == 'off'


@pytest.mark.parametrize(('rounds', 'used'), [(False, True), (True, False)])
def test_the_product_of_onednn_is_checked(monkeypatch, rounds, used):
    """A made-up oneDNN that multiplies in bf16 as soon as that is permitted."""
    switch = SimpleNamespace(fp32_precision='none')
    monkeypatch.setattr(torch.backends.mkldnn, 'matmul', switch, raising=False)
    product = torch.Tensor.__matmul__

    def rounding(a, b):
        if rounds and a.dtype == torch.float32 and switch.fp32_precision == 'bf16':
            a, b = a.bfloat16().float(), b.bfloat16().float()
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, '__matmul__', rounding)
    assert precision.use_onednn() is used
    assert switch.fp32_precision == ('bf16' if used else 'none')


def test_a_torch_without_the_switch(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, 'matmul', None, raising=False)
    assert precision.use_onednn() is False
