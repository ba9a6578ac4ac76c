#!/usr/bin/env bash
# Fill the paper's tables: pre-train what is missing, evaluate, and put ours beside the published values.
#   ./script_reproduce.sh [data set …] [--seeds 0 1 2] [more flags, see --help]       results are in reproduce/
#   ./script_reproduce.sh --demo      everything on synthetic recordings, in minutes, without a GPU
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
if [[ " $* " == *' --demo '* ]]; then make_environment requirements.txt; else use_environment; fi
exec python -m tools.reproduce "$@"
