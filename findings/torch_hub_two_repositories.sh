#!/usr/bin/env bash
# torch 2.13.0: the second of two hub repositories silently runs the first one's code, if both have
#               a package of the same name.
#
# Expected: torch.hub.load(folder, …, source='local') runs the code of that folder. It puts the
#           folder on sys.path for the import and takes it off again.
# Seen:     hubconf.py itself is loaded afresh, but what it imports stays in sys.modules. A second
#           repository whose hubconf.py says `from model import build` gets the `model` of the
#           first one. No error and no warning; it answers with the other network.
# Matters:  nearly every repository of skeleton-based action recognition calls its package `model`
#           (2s-AGCN, MS-G3D, CTR-GCN and their descendants). Comparing two of them in one notebook
#           compares one with itself. The same holds for a `model` of the notebook's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
for name in first second; do
    mkdir -p "$folder/$name/model"
    echo "NAME = '$name'" > "$folder/$name/model/__init__.py"
    printf '%s\n' 'from model import NAME' 'def network():' '    return NAME' > "$folder/$name/hubconf.py"
done
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys

import torch

print('torch', torch.__version__)
answers = [torch.hub.load(name, 'network', source='local') for name in ('first', 'second')]
print('the networks of the folders first and second:', answers)
assert not any(path.endswith(('first', 'second')) for path in sys.path)
assert answers == ['first', 'first'], 'this has changed: each repository gets its own package'
PY
