#!/usr/bin/env bash
# trc-data-reader 0.4.1: where a marker is lost, it gets the coordinates of the next one.
#
# Expected: three empty cells of a .trc, as many tools write a gap, are NaN.
# Seen:     a row is split at white space, so the empty cells vanish and all later markers move up:
#           the knee is at the hip for the length of the gap, and the last marker is NaN. The reader
#           notices neither; it raises only if one or two of the three cells are empty.
# Matters:  a gap of one marker spoils all later ones, by a plausible amount. Joint angles and
#           velocities jump, and whoever fills the NaN fills the wrong marker.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet trc-data-reader==0.4.1 c3d==0.6.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from trc import TRCData

keys = 'DataRate CameraRate NumFrames NumMarkers Units OrigDataRate OrigDataStartFrame OrigNumFrames'
lines = ['PathFileType\t4\t(X/Y/Z)\ta.trc', '\t'.join(keys.split())]
lines += ['60\t60\t3\t3\tm\t60\t1\t3', 'Frame#\tTime\tAnkle\t\t\tKnee\t\t\tHip\t\t']
lines += ['\t\tX1\tY1\tZ1\tX2\tY2\tZ2\tX3\tY3\tZ3', '']
for frame in range(3):
    knee = '\t\t' if frame == 1 else '0\t0.5\t0'
    lines.append(f'{frame + 1}\t{frame / 60}\t0\t0.1\t0\t{knee}\t0\t0.9\t0')
open('a.trc', 'w').write('\n'.join(lines) + '\n')
data = TRCData()
data.load('a.trc')
heights = {name: [place[1] for place in data[name]] for name in data['Markers']}
print('trc-data-reader', version('trc-data-reader'))
print('expected: the knee at 0.5, nan, 0.5, the hip at 0.9 always')
print('seen:', heights)
assert heights['Ankle'] == [0.1, 0.1, 0.1]
assert heights['Knee'] == [0.5, 0.9, 0.5], 'this has changed: the gap stays where it is'
assert np.isnan(heights['Hip'][1]), 'this has changed: the hip'
PY
