#!/usr/bin/env bash
# Pre-train with the published settings on several machines of a SLURM cluster, on all GPUs of each, or else on its CPUs.
#   sbatch [--nodes=4 and other flags of sbatch] script_pretrain_slurm.sh [dataset] [protocol] [more flags of pretrain.py]
# The arguments are those of script_pretrain.sh. Submit the script in the project's root, which all machines must see at
# the same path, with data/ and checkpoints/. Two minutes before the time limit the run saves and the job is queued again.
# A job that is submitted again continues too; --resume none starts a new run.
#SBATCH --job-name=umurl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --output=slurm-%j.txt
#SBATCH --open-mode=append
set -euo pipefail
root=${SLURM_SUBMIT_DIR:-$(dirname "$0")}  # SLURM runs a copy of this script from another folder
fail() { echo "error: $1" >&2; exit 2; }
[ -f "$root/tools/scripts.sh" ] || fail "$root is not the project's root: submit this script there"
[ -n "${SLURM_JOB_NODELIST:-}" ] || fail "this is not a SLURM job: submit with sbatch, or use script_pretrain.sh"
. "$root/tools/scripts.sh"
use_environment

# One torchrun per machine counts its GPUs and starts a process for each; they all meet on the first machine, at a port of this
# job's own, so that two jobs on one machine do not meet each other.
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
launcher="srun --nodes=${#nodes[@]} --ntasks=${#nodes[@]} --ntasks-per-node=1 --kill-on-bad-exit=1"
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then launcher+=" --cpus-per-task=$SLURM_CPUS_PER_TASK"; fi  # not inherited
launcher+=" python -m tools.launch --nnodes=${#nodes[@]} --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID"
launcher+=" --rdzv-endpoint=${nodes[0]}:$((20000 + SLURM_JOB_ID % 10000))"

# USR1 comes to this script alone. It asks the step to save and leave, and the job to be queued again.
stopped=
stop_step() { stopped=1; scancel --signal=TERM "$SLURM_JOB_ID.0"; }
trap stop_step USR1
pretrain "$launcher" "$@" &
while kill -0 $! 2>/dev/null; do wait $! || true; done  # a trap ends `wait` early
code=0; wait $! || code=$?
if [ -n "$stopped" ] && [ "$code" != 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
