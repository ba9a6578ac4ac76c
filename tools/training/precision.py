"""The precision that a model trains in.

Chosen by what the processor can do and by the model's width, never by timing, so that a run stays
the same run.
"""

import torch

from tools.device import AMP, amp_dtype, cpu_fact

NATIVE = ('avx512_bf16', 'amx_bf16')  # flags of a CPU that multiplies in bf16
WIDE = 1024  # the width at which bf16 was measured faster on such a CPU (BENCHMARKS.md)


def choose_precision(
    amp: str, device: torch.device, width: int, recorded: dict
) -> tuple[torch.dtype | None, dict, str]:
    """The dtype of autocast for --amp (None: plain float32), what a run records, and a text that
    says why.

    recorded: the configuration of the checkpoint to resume from, which `auto` follows on the same
    kind of device.
    """
    before = recorded.get('amp') if recorded.get('device') == device.type else None
    if before not in list(AMP):  # another device, nothing recorded, or damaged
        before = None
    reason = f'--amp {amp}'
    if amp == 'auto' and before:
        amp, reason = before, 'as before'
    elif amp == 'auto':
        reason = f'width {width}, {device.type}'
        native = native_bf16(device)
        if native and width >= WIDE:
            amp, reason = 'bf16', f'{reason} with {native}'
    dtype = amp_dtype(amp, device)
    name = next(name for name, value in AMP.items() if value is dtype)
    if before and before != name:
        reason += f', until now {before}'
    if device.type == 'cuda' and dtype:
        # TF32 in the objective; the model multiplies in half precision
        torch.set_float32_matmul_precision('high')
    return dtype, {'amp': name}, f'{"float32" if name == "off" else name} ({reason})'


def native_bf16(device: torch.device) -> str | None:
    """The flag of a CPU that multiplies in bf16; None for another CPU and for a GPU."""
    flags = cpu_fact('flags').split() if device.type == 'cpu' else []
    return next((flag for flag in NATIVE if flag in flags), None)
