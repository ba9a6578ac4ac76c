#!/usr/bin/env bash
# Pre-train with the published settings on several machines of a SLURM cluster, on all GPUs of each.
#   sbatch [--nodes=4 and other flags of sbatch] script_pretrain_slurm.sh [dataset] [protocol] [more flags of pretrain.py]
# Submit it in the project's root, which all machines must see at the same path, with data/ and checkpoints/. Arguments
# are those of script_pretrain.sh. A job that was stopped goes on when it is submitted again with --resume auto.
#SBATCH --job-name=umurl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.txt
set -euo pipefail

# SLURM runs a copy of this file, so its own place says nothing
root=${SLURM_SUBMIT_DIR:-$(dirname "$0")}
if [ ! -f "$root/tools/environment.sh" ]; then
    echo "error: $root is not the project's root: submit this script there" >&2
    exit 2
fi
if [ -z "${SLURM_JOB_NODELIST:-}" ]; then
    echo "error: this is not a SLURM job: submit the script with sbatch, or use script_pretrain.sh on one machine" >&2
    exit 2
fi
. "$root/tools/environment.sh"
. tools/pretrain.sh
use_environment

# One torchrun on each machine starts a process for each of its GPUs; all of them meet on the first machine. Two jobs
# on one machine must not meet each other: each has a port of its own.
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000))
launch="srun --nodes=${#nodes[@]} --ntasks=${#nodes[@]} --ntasks-per-node=1 --kill-on-bad-exit=1"
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then launch+=" --cpus-per-task=$SLURM_CPUS_PER_TASK"; fi  # srun does not inherit it
launch+=" torchrun --nnodes=${#nodes[@]} --nproc-per-node=gpu --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID"
launch+=" --rdzv-endpoint=${nodes[0]}:$port"
pretrain "$launch" "$@"
