#!/usr/bin/env bash
# The whole job on embedded demo data, in minutes and without a GPU: synthetic raw recordings -> arrays ->
# pre-training -> linear probe -> retrieval, against an encoder that was not trained. Everything lands in demo/.
#   ./script_demo.sh
set -euo pipefail
. "$(dirname "$0")/tools/environment.sh"
make_environment
python -m tools.demo "$@"
