#!/usr/bin/env bash
# Pose2Sim 0.10.49, Utilities/c3d_to_trc.py: coordinates in metres, under "Units  mm".
#
# Expected: the .trc holds the numbers of the .c3d in millimetres and says mm, or metres and says m.
# Seen:     it multiplies millimetres by 0.001 and still writes mm, so OpenSim and every reader that
#           believes the header sees people 1.7 mm tall. A marker that is lost in the .c3d (residual
#           -1, or NaN) becomes 0 0 0, a place in the laboratory, not an empty cell.
# Matters:  scaling a model to such a file fails or gives nonsense; the mean of markers drifts to the
#           origin in gaps. Write m into the third line, and empty the cells at 0 0 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps pose2sim==0.10.49 c3d==0.6.0
"$folder/venv/bin/pip" install --quiet ezc3d==1.7.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import ezc3d
import numpy as np
from Pose2Sim.Utilities.c3d_to_trc import c3d_to_trc_func

file = ezc3d.c3d()
point = file['parameters']['POINT']
point['RATE']['value'], point['UNITS']['value'] = [100], ['mm']
point['LABELS']['value'] = ['LANK', 'LFHD']
points = np.ones((4, 2, 3))
points[:3] = np.array([[100, 100, 100], [100, 100, 1700]]).T[:, :, None]  # 1.6 m apart
points[:3, 0, 1] = np.nan  # the ankle is lost in the second frame
file['data']['points'] = points
file.write('a.c3d')
c3d_to_trc_func('a.c3d', 'a.trc')
lines = [line.split('\t') for line in open('a.trc').read().splitlines()]
header = dict(zip(*lines[1:3]))
rows = np.array([line[2:] for line in lines[5:]], float).reshape(-1, 2, 3)
print('the .trc says', header['Units'], 'and holds', rows.tolist())
height = rows[0, 1, 2] - rows[0, 0, 2]
print(f"head above ankle: {height:.3f} {header['Units']}; the .c3d has 1600 mm")
assert header['Units'] == 'mm' and abs(height - 1.6) < 1e-6, 'this has changed: unit and numbers'
assert not rows[1, 0].any(), 'this has changed: a lost marker is no longer 0 0 0'
PY
