#!/usr/bin/env bash
# Pre-train with the published settings, on all GPUs that torch sees (or on the CPU).
#   ./script_pretrain.sh [dataset] [protocol] [more flags of pretrain.py]
# dataset: ntu60 (default), ntu120, pku1, pku2 or custom; protocol: cross_subject (default), cross_view (ntu60, pku1, pku2),
# cross_setup (ntu120), own_split (custom, its default)
set -euo pipefail
. "$(dirname "$0")/tools/environment.sh"
. tools/pretrain.sh
use_environment

gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
launch=python
if [ "$gpus" -gt 1 ]; then launch="torchrun --nproc_per_node=$gpus"; fi
pretrain "$launch" "$@"
