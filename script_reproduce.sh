#!/usr/bin/env bash
# Fill the paper's tables: pre-train what is missing, evaluate, and set ours beside the published values.
#   ./script_reproduce.sh [dataset …] [--seeds 0 1 2] [more flags: --help]
#   ./script_reproduce.sh --demo      all of it on synthetic recordings, in a minute or two, without a GPU
# dataset: ntu60_xsub, ntu60_xview, ntu120_xsub, ntu120_xsetup, pku2_xsub (default: all of them), custom, …
# What is not prepared is left out; what is done is not done again. The tables land in reproduce/.
set -euo pipefail
. "$(dirname "$0")/tools/environment.sh"
case " $* " in
    *' --demo '*) make_environment ;;
    *) use_environment ;;
esac
python -m tools.reproduce "$@"
