"""Lets the tests of this folder import known_body.py."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
