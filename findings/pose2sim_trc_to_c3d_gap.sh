#!/usr/bin/env bash
# Pose2Sim 0.10.49, Utilities/trc_to_c3d.py (with c3d 0.6.0): a gap becomes a marker at the origin of
# the laboratory that counts as seen, and coordinates lose their fractions of a millimetre.
#
# Expected: a marker that is empty in the .trc is lost in the .c3d (residual -1), and 151.9 mm stays
#           151.9 or becomes 152.
# Seen:     the empty cell, NaN, is cast to an integer: 0 0 0 with a residual of 0, so valid by the
#           format (the value of that cast depends on the processor). 151.9 becomes 151: integers,
#           cut off, not rounded, so every coordinate is 0.5 mm too small on average.
# Matters:  a wrist jumps to the floor in each gap, and no reader of .c3d can know.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps pose2sim==0.10.49 c3d==0.6.0
"$folder/venv/bin/pip" install --quiet ezc3d==1.7.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import ezc3d
from Pose2Sim.Utilities.trc_to_c3d import trc_to_c3d_func

lines = ['PathFileType\t4\t(X/Y/Z)\ta.trc', 'DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits']
lines += ['60\t60\t4\t2\tm', 'Frame#\tTime\tHip\t\t\tLWrist\t\t', '\t\tX1\tY1\tZ1\tX2\tY2\tZ2']
for frame in range(4):
    wrist = '\t\t' if frame == 2 else '0.3009\t1.1009\t0.2009'
    lines.append(f'{frame}\t{frame / 60}\t0.1519\t0.9519\t0.0519\t{wrist}')
open('a.trc', 'w').write('\n'.join(lines) + '\n')
trc_to_c3d_func('a.trc')
data = ezc3d.c3d('a.c3d')['data']
hip, wrist = data['points'][:3].transpose(1, 2, 0)
residual = data['meta_points']['residuals'][0, 1]
print('hip, 151.9 951.9 51.9 mm in the .trc:', hip[0].tolist())
print('wrist, empty in the third frame:', wrist.tolist(), 'residuals', residual.tolist())
assert hip[0].tolist() == [151, 951, 51], 'this has changed: fractions of a millimetre'
assert residual[2] >= 0 and abs(wrist[2]).max() != 300, 'this has changed: the gap is marked'
PY
