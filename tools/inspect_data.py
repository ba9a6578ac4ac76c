"""Moved to tools/analysis/."""
import sys

print('error: tools/inspect_data.py has moved: use python -m tools.analysis.inspect_data', file=sys.stderr)
sys.exit(2)
