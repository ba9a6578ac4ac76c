#!/usr/bin/env bash
# pytorch-metric-learning 2.9.0: queries that cannot be answered do not lower the accuracy.
#
# Expected: precision_at_1 is the share of all queries whose nearest neighbour has their label; one of
#           a class that the reference set lacks is wrong, as in any k-NN accuracy.
# Seen:     AccuracyCalculator leaves such queries out, and divides by the rest. One query of ten has
#           its class in the reference set and is right: 1.0, not 0.1. Without a reference set the
#           same holds for classes of a single clip.
# Matters:  retrieval with few labels (1 % semi-supervised, one-shot NTU-120, rare classes of own
#           recordings): sets that lack classes score higher than with a plain k-NN, and the fewer
#           classes are left, the easier they are to tell apart.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pytorch-metric-learning==2.9.0 faiss-cpu==1.15.1 torch==2.13.0 \
    numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import pytorch_metric_learning
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

calculator = AccuracyCalculator(include=('precision_at_1',), device=torch.device('cpu'))
features, labels = torch.eye(10), torch.arange(10)
reference, reference_labels = features[:2] + 0.1, torch.tensor([0, 0])
nearest = torch.cdist(features, reference).argmin(1)
plain = (reference_labels[nearest] == labels).double().mean().item()
seen = calculator.get_accuracy(features, labels, reference, reference_labels)
print('pytorch-metric-learning', pytorch_metric_learning.__version__)
print(f'ten queries, one of a class that is there: expected {plain}, seen {seen}')
assert plain == 0.1
assert seen['precision_at_1'] == 1, 'this has changed: all queries count'

clips = torch.eye(4)
clips[1] = clips[0] + 0.1
labels = torch.tensor([0, 0, 1, 2])
alone = calculator.get_accuracy(clips, labels)
print(f'four clips, two of a class of their own: expected 0.5, seen {alone}')
assert alone['precision_at_1'] == 1, 'this has changed: clips of a class of their own count'
PY
