#!/usr/bin/env bash
# torch 2.13.0: nn.TransformerEncoder gives other features for padded frames in evaluation.
#
# Expected: without dropout, eval() and no_grad() change no output.
# Seen:     with src_key_padding_mask the encoder drops the padded frames there, and fills their
#           outputs with 0. In train(), or in eval() with gradients, they hold what the layers
#           compute, of about the size of the others. The one warning says that nested tensors are a
#           prototype.
# Matters:  pooling over all frames is common for clips of several lengths. Its features then differ
#           between training and evaluation, the more the shorter the clip. Pool over the valid frames
#           only, or pass enable_nested_tensor=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn

torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
encoder = nn.TransformerEncoder(layer, 2).eval()
plain = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
plain.load_state_dict(encoder.state_dict())
clips = torch.randn(2, 10, 64)
padded = torch.zeros(2, 10, dtype=torch.bool)
padded[1, 4:] = True  # the second clip has four frames
with_gradients = encoder(clips, src_key_padding_mask=padded).detach()
with torch.no_grad():
    without = encoder(clips, src_key_padding_mask=padded)
    not_nested = plain(clips, src_key_padding_mask=padded)

print('torch', torch.__version__)
print('norm of a valid frame:', round(with_gradients[~padded].norm(dim=1).mean().item(), 2))
for name, output in (('with gradients', with_gradients), ('no_grad()', without)):
    print(f'norm of a padded frame, {name}:', round(output[padded].norm(dim=1).mean().item(), 2))
pooled = [output.mean(1)[1] for output in (with_gradients, without)]
cosine = torch.cosine_similarity(*pooled, dim=0).item()
print(f'mean over the frames of the short clip: cosine of the two {cosine:.2f}, expected 1')
assert with_gradients[~padded].allclose(without[~padded], atol=1e-4)
assert with_gradients.allclose(not_nested, atol=1e-4)
assert not without[padded].any(), 'this has changed: padded frames are not 0'
assert cosine < 0.95, 'this has changed: the means agree'
PY
