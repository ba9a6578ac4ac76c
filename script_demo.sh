#!/usr/bin/env bash
# The whole job on synthetic recordings, in minutes and without a GPU: raw recordings -> arrays -> pre-training ->
# linear probe and retrieval, compared with an untrained encoder. Everything is in demo/.
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
make_environment requirements.txt
exec python -m tools.demo "$@"
