#!/usr/bin/env bash
# k-NN retrieval (k = 1) with the newest checkpoint in ./checkpoints/$dir. Default: ntu60_xsub, and the data of its pre-training.
#   ./script_action_retrieval.sh [dir or checkpoint] [dataset] [protocol] [more flags of action_retrieval.py]
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
use_environment
evaluate 'action_retrieval.py --knn-neighbours 1' "$@"
