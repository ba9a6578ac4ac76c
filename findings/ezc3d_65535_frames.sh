#!/usr/bin/env bash
# ezc3d 1.7.2: a recording of more than 65,535 frames loses its end, between one write and one read.
#
# Expected: what is written is read back, or one of the two raises. .c3d counts its frames in 16 bits,
#           and has known ways round it (POINT:LONG_FRAMES, TRIAL:ACTUAL_END_FIELD).
# Seen:     all frames are written to the disk, but the header and POINT:FRAMES stop at 65,535, and so
#           does the reader. 70,000 frames come back as 65,535, without a word.
# Matters:  11 minutes at 100 frames a second, 4.6 at 240: long takes of dance or of free play. Labels
#           by frame, or a second sensor of the same take, then no longer fit. Kinetics Toolkit and
#           others read .c3d through ezc3d. Write such takes in parts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ezc3d==1.7.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import os

import ezc3d
import numpy as np

print('ezc3d', ezc3d.__version__)


def write_and_read(frames):
    file = ezc3d.c3d()
    point = file['parameters']['POINT']
    point['RATE']['value'], point['UNITS']['value'] = [100], ['mm']
    point['LABELS']['value'] = ['LFHD']
    points = np.ones((4, 1, frames))
    points[0] = np.arange(frames)
    file['data']['points'] = points
    file.write('a.c3d')
    read = ezc3d.c3d('a.c3d')
    x = read['data']['points'][0, 0]
    said = read['parameters']['POINT']['FRAMES']['value'][0]
    stored = os.path.getsize('a.c3d') // 16  # four floats a frame, and a little for the header
    print(f'written {frames}, POINT:FRAMES {said}, read {len(x)}, the last is frame {x[-1]:.0f}')
    return stored, said, len(x)


assert write_and_read(65535)[1:] == (65535, 65535)
stored, said, read = write_and_read(70000)
assert stored >= 70000, 'this has changed: the end is not written'
assert said == read == 65535, 'this has changed: long recordings come back whole'
PY
