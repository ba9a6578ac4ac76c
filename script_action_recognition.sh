#!/usr/bin/env bash
# Linear probe (or --finetune) of the newest checkpoint in ./checkpoints/$dir. Default: ntu60_xsub ntu60 cross_subject.
#   ./script_action_recognition.sh [dir] [dataset] [protocol] [more flags of action_recognition.py]
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
use_environment
evaluate action_recognition.py "$@"
