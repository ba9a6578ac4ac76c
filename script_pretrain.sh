#!/usr/bin/env bash
# Pre-train with the published settings, on all GPUs that torch sees (or on the CPU).
#   ./script_pretrain.sh [dataset] [protocol] [more flags of pretrain.py]
# dataset: ntu60 (default), ntu120, pku1, pku2 or custom; protocol: cross_subject (default), cross_view (ntu60, pku1, pku2),
# cross_setup (ntu120), own_split (custom, its default)
set -euo pipefail
. "$(dirname "$0")/tools/environment.sh"
use_environment

dataset=ntu60 protocol=cross_subject
if [[ ${1:--} != -* ]]; then dataset=$1; shift; fi
if [ "$dataset" = custom ]; then protocol=own_split; fi
if [[ ${1:--} != -* ]]; then protocol=$1; shift; fi

batch=1024
if [ "$dataset $protocol" = "ntu60 cross_subject" ]; then batch=512; fi
folder=./checkpoints/${dataset}_${protocol/cross_/x}
folder=${folder/xsubject/xsub}
folder=${folder/_own_split/}

gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
launch=(python)
if [ "$gpus" -gt 1 ]; then launch=(torchrun --nproc_per_node="$gpus"); fi

mkdir -p "$folder"
"${launch[@]}" pretrain.py --lr 0.0005 --batch-size "$batch" --checkpoint-path "$folder" \
    --schedule 351 --epochs 451 --pre-dataset "$dataset" --protocol "$protocol" "$@" | tee -a "$folder/pretrain.txt"
