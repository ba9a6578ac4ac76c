#!/usr/bin/env bash
# torch 2.13.0: FlopCounterMode counts no FLOPs for a transformer that is evaluated.
#
# Expected: a forward pass costs the same under eval() and no_grad() as in training, and is counted so.
# Seen:     nn.TransformerEncoder and nn.MultiheadAttention take a fast path there, one fused operator
#           that the counter has no formula for. It counts 0, without a warning: an encoder alone has
#           0 FLOPs, and a larger model those of its other layers.
# Matters:  FLOPs are counted as one evaluates, with eval() and no_grad(), and tables compare them. A
#           transformer then looks cheaper than the graph convolutions beside it. Count in train(), or
#           after torch.backends.mha.set_fastpath_enabled(False).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
model = nn.Sequential(nn.Linear(64, 64), nn.TransformerEncoder(layer, 2))
clips = torch.randn(2, 10, 64)
embedding = 2 * 2 * 10 * 64 * 64


def flops():
    with FlopCounterMode(display=False) as counter:
        model(clips)
    return counter.get_total_flops()


print('torch', torch.__version__)
training = flops()
model.eval()
with torch.no_grad():
    evaluating = flops()
    torch.backends.mha.set_fastpath_enabled(False)
    slow_path = flops()
print(f'train(): {training:,}; eval() and no_grad(): {evaluating:,}, expected the same')
print(f'eval() and no_grad() without the fast path: {slow_path:,}')
assert training == slow_path > 10 * embedding
assert evaluating == embedding, 'this has changed: the fast path is counted'
PY
