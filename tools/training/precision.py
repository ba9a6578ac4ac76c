"""The precision that a model trains in: of autocast, and of products of float32 matrices on a CPU.

Chosen by what the processor can do and by the model's width, never by timing, so that a run stays
the same run.
"""

import torch

from tools.device import AMP, amp_dtype, cpu_fact

NATIVE = {'avx512_bf16', 'amx_bf16'}  # flags of a CPU that multiplies in bf16
# the width at which bf16, and oneDNN in float32, were measured faster on such a CPU (BENCHMARKS.md)
WIDE = 1024
ERROR = (
    2e-6  # of a product in float32, relative to its largest number; in bf16 or TF32 it is larger
)


def choose_precision(
    amp: str, device: torch.device, width: int, recorded: dict
) -> tuple[torch.dtype | None, dict, str]:
    """The dtype of autocast for --amp (None: plain float32), what a run records, and a text that
    says why.

    recorded: the configuration of the checkpoint to resume from, which `auto` follows on the same
    kind of device.
    """
    follow = (
        recorded
        if recorded.get('device') == device.type and recorded.get('amp') in list(AMP)
        else {}
    )
    native = (
        sorted(NATIVE.intersection(cpu_fact('flags').split()))
        if device.type == 'cpu' and width >= WIDE
        else []
    )
    reason = f'--amp {amp}'
    if amp == 'auto' and follow:
        amp, reason = follow['amp'], 'as before'
    elif amp == 'auto':
        amp = 'bf16' if native else amp
        reason = f'width {width}, {device.type}' + ''.join(f' with {flag}' for flag in native)
    dtype = amp_dtype(amp, device)
    amp = next(name for name, value in AMP.items() if value is dtype)
    onednn = (follow.get('products') == 'onednn' if follow else bool(native)) and use_onednn()
    if device.type == 'cuda' and dtype:
        torch.set_float32_matmul_precision(
            'high'
        )  # TF32 in the objective; the model multiplies in half precision
    text = f'{"float32" if amp == "off" else amp} ({reason})'
    if follow.get('amp', amp) != amp:
        text += f', until now {follow["amp"]}'
    text += ', float32 products by oneDNN' * onednn
    return dtype, {'amp': amp, 'products': 'onednn' if onednn else 'torch'}, text


def use_onednn() -> bool:
    """Let oneDNN multiply float32 matrices on the CPU, if its product is one of float32."""
    switch = getattr(torch.backends.mkldnn, 'matmul', None)
    before = getattr(switch, 'fp32_precision', None)  # since torch 2.9
    if before is None:
        return False
    switch.fp32_precision = (
        'bf16'  # permits bf16 inside; a CPU without AMX computes in float32 all the same
    )
    a, b = (torch.randn(256, 256, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    exact = a.double() @ b.double()
    accurate = ((a @ b - exact).abs().max() < ERROR * exact.abs().max()).item()
    if not accurate:
        switch.fp32_precision = before
    return accurate
