#!/usr/bin/env bash
# k-NN retrieval with the newest checkpoint in ./checkpoints/$dir.
#   ./script_action_retrieval.sh [dir] [dataset] [protocol] [more flags of action_retrieval.py]
# default: ntu60_xsub ntu60 cross_subject, --knn-neighbours 1
set -euo pipefail
. "$(dirname "$0")/tools/environment.sh"
. tools/evaluate.sh
use_environment
evaluate 'action_retrieval.py --knn-neighbours 1' "$@"
