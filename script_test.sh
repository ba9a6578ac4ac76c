#!/usr/bin/env bash
# Run the linter and the tests.
#   ./script_test.sh [more flags of pytest]      -m slow: the long tests alone; -m slurm: on a SLURM cluster that is
#                                        set up on this machine, as root (15 minutes); -n 0: in one process
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
make_environment requirements-dev.txt pytest pytest-xdist
if command -v ruff >/dev/null; then
    ruff check .
    ruff format --check --quiet . || { echo "error: some files are not formatted: run ruff format ." >&2; exit 1; }
else
    echo "note: ruff is not installed, so nothing is linted" >&2
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # in each of the processes
python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
