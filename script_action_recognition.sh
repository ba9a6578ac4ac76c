#!/usr/bin/env bash
# Linear probe (or --finetune) of the newest checkpoint in ./checkpoints/$dir.
#   ./script_action_recognition.sh [dir] [dataset] [protocol] [more flags of action_recognition.py]
# default: ntu60_xsub ntu60 cross_subject
set -euo pipefail
. "$(dirname "$0")/tools/environment.sh"
. tools/evaluate.sh
use_environment
evaluate action_recognition.py "$@"
