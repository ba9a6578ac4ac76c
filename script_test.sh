#!/usr/bin/env bash
# Run the tests (and the linter), in the active Python environment or in one made here.
#   ./script_test.sh [more flags of pytest]
set -euo pipefail
. "$(dirname "$0")/tools/environment.sh"
make_environment
ruff check .
python -m pytest -q "$@"
