#!/usr/bin/env bash
# Linear probe (or --finetune) of the newest checkpoint in ./checkpoints/$dir. Default: ntu60_xsub, and the data of its pre-training.
#   ./script_action_recognition.sh [dir or checkpoint] [dataset] [protocol] [more flags of action_recognition.py]
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
use_environment
evaluate action_recognition.py "$@"
