#!/usr/bin/env bash
# torch 2.13.0 on a CPU: the fused optimizers read a gradient as if it lay in memory like its weight.
#
# Expected: Adam, AdamW and SGD make the same step with fused=True as without, whatever the strides
#           of the gradient. The plain and the foreach versions do.
# Seen:     with a gradient that is a transposed view, fused=True gives each weight the gradient of
#           another one. No error, no warning; the loss goes down more slowly, or not at all.
# Matters:  backward() lays a gradient out like its weight, so most training is safe.
#           torch.autograd.grad() does not: code that assigns its result to .grad (gradient surgery,
#           sharpness-aware steps, hand-written backward passes) trains on scrambled numbers.
#           .contiguous() mends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch


def step(optimizer, gradient, **flags):
    weight = torch.nn.Parameter(torch.zeros(3, 2))
    weight.grad = gradient
    optimizer([weight], lr=1.0, **flags).step()
    return weight.detach()


transposed = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).T
same_numbers = transposed.contiguous()
print('torch', torch.__version__)
print('gradient', transposed.tolist(), 'strides', transposed.stride())
plain = step(torch.optim.SGD, transposed)
fused = step(torch.optim.SGD, transposed, fused=True)
print('plain SGD ', plain.tolist())
print('fused SGD ', fused.tolist())
assert plain.equal(step(torch.optim.SGD, transposed, foreach=True))
assert plain.equal(step(torch.optim.SGD, same_numbers, fused=True))
assert not plain.equal(fused), 'this has changed: fused SGD now minds the strides'
assert sorted(plain.flatten()) == sorted(fused.flatten()), 'the numbers are not merely exchanged'
for name in ('Adam', 'AdamW'):
    optimizer = getattr(torch.optim, name)
    gradient = torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, 6.0]]).T
    plain, fused = step(optimizer, gradient), step(optimizer, gradient, fused=True)
    print(f'fused {name}: {int((plain != fused).sum())} of 6 weights differ from plain {name}')
    assert not plain.allclose(fused), f'this has changed: fused {name} now minds the strides'
PY
