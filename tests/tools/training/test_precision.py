"""The precision that training chooses, on CPUs that are made up."""

import pytest
import torch

from tools.training import precision

CPU = torch.device('cpu')


@pytest.fixture
def cpu(monkeypatch):
    """cpu(flags): as if the CPU had these flags."""

    def pretend(*flags):
        monkeypatch.setattr(precision, 'cpu_fact', lambda name: ' '.join(['avx2', *flags]))

    return pretend


@pytest.mark.parametrize(
    ('flags', 'amp', 'width', 'expected', 'text'),
    [
        ([], 'auto', 1024, (None, 'off'), 'float32 (width 1024, cpu)'),
        (
            ['avx512_bf16'],
            'auto',
            1024,
            (torch.bfloat16, 'bf16'),
            'bf16 (width 1024, cpu with avx512_bf16)',
        ),
        (
            ['amx_bf16'],
            'auto',
            2048,
            (torch.bfloat16, 'bf16'),
            'bf16 (width 2048, cpu with amx_bf16)',
        ),
        (['avx512_bf16'], 'auto', 1022, (None, 'off'), 'float32 (width 1022, cpu)'),
        (['avx512_bf16'], 'off', 1024, (None, 'off'), 'float32 (--amp off)'),
        ([], 'bf16', 8, (torch.bfloat16, 'bf16'), 'bf16 (--amp bf16)'),
    ],
)
def test_the_choice_on_a_cpu(cpu, flags, amp, width, expected, text):
    cpu(*flags)
    assert precision.choose_precision(amp, CPU, width, {}) == (
        expected[0],
        {'amp': expected[1]},
        text,
    )


def test_a_resumed_run_keeps_its_precision(cpu):
    cpu('avx512_bf16')
    before = {'device': 'cpu', 'amp': 'off'}
    dtype, recorded, text = precision.choose_precision('auto', CPU, 1024, before)
    assert (dtype, recorded) == (None, {'amp': 'off'})
    assert text == 'float32 (as before)'
    cpu()
    before |= {'amp': 'bf16', 'products': 'onednn'}  # recorded by earlier runs, unused now
    assert precision.choose_precision('auto', CPU, 8, before)[1] == {'amp': 'bf16'}
    text = precision.choose_precision('off', CPU, 8, before)[2]
    assert text == 'float32 (--amp off, until now bf16)'
    for elsewhere in (
        {'device': 'cuda'},
        {'amp': ['bf16']},
        {'amp': 'bf8'},
    ):  # of another device, or damaged
        assert precision.choose_precision('auto', CPU, 8, before | elsewhere)[1]['amp'] == 'off'
