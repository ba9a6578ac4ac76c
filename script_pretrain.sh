#!/usr/bin/env bash
# Pre-train with the published settings, on all GPUs that torch sees, or on the CPU. Default: ntu60 cross_subject.
#   ./script_pretrain.sh [dataset] [protocol] [more flags of pretrain.py]
# A run that was stopped is continued; --resume none starts a new one and moves the old one's files aside.
# ntu60, pku1 and pku2 have cross_subject and cross_view, ntu120 cross_subject and cross_setup, irds only cross_subject,
# nwucla only cross_view, custom only own_split.
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
use_environment
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ "$gpus" -gt 1 ]; then launcher="python -m tools.launch --standalone"; else launcher=python; fi
pretrain "exec $launcher" "$@"
