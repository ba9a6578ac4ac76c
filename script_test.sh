#!/usr/bin/env bash
# Run the linter and the tests.
#   ./script_test.sh [more flags of pytest]      -m slow: the long tests alone
set -euo pipefail
. "$(dirname "$0")/tools/scripts.sh"
make_environment requirements-dev.txt pytest
if command -v ruff >/dev/null; then ruff check .; else echo "note: ruff is not installed, so nothing is linted" >&2; fi
python -m pytest -q "$@"
