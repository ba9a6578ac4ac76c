#!/usr/bin/env bash
# krajjat 1.99.24: a hand that moves at a constant speed starts and ends with a jolt.
#
# Expected: at 1 m/s get_measure gives a velocity of 1 and an acceleration of 0, for all poses.
# Seen:     the filter that differentiates repeats the first and the last position beyond the ends
#           (mode='nearest'), as if the hand had stood still before the clip and after it. At 100 Hz
#           the velocity runs 0.5, 0.76, 0.96, 1.06 …, and the acceleration starts and ends at
#           26.5 m/s², at 240 Hz at 24. calculate_derivative alone has another default, and is right.
# Matters:  the largest acceleration of a clip (get_extremum_measure) is that of its ends, and the mean
#           and the sum hold it too: clips differ by their length and by where they were cut. Leave
#           out the ends.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet krajjat==1.99.24 joblib==1.6.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import os
import warnings
from importlib.metadata import version

import numpy as np

warnings.simplefilter('ignore')
from krajjat.classes.sequence import Sequence


def measures(rate):
    rows = ['Timestamp\tHandRight_X\tHandRight_Y\tHandRight_Z']
    rows += [f'{frame / rate:.9f}\t{frame / rate:.9f}\t1\t2' for frame in range(2 * rate)]  # 1 m/s
    open('a.tsv', 'w').write('\n'.join(rows) + '\n')
    clip = Sequence(os.path.abspath('a.tsv'), verbosity=0)
    names = ('velocity', 'acceleration')
    found = [np.asarray(clip.get_measure(name, 'HandRight', verbosity=0)) for name in names]
    largest = clip.get_extremum_measure('acceleration', 'HandRight', verbosity=0)[1]
    return *found, largest


print('krajjat', version('krajjat'))
velocity, acceleration, largest = measures(100)
print('velocity, expected 1:    ', velocity[:6].round(2).tolist(), '… at the end', velocity[-1].round(2))
print('acceleration, expected 0:', acceleration[:3].round(1).tolist(), 'largest', round(largest, 1))
assert np.allclose(velocity[20:-20], 1) and np.allclose(acceleration[20:-20], 0)
assert abs(velocity[0] - 0.5) < 0.01, 'this has changed: the first velocity'
assert abs(velocity[-1] - 0.5) < 0.01, 'this has changed: the last velocity'
assert abs(largest - 26.5) < 0.1, 'this has changed: the largest acceleration'
largest = measures(240)[2]
print(f'at 240 Hz the largest acceleration is {largest:.1f}')
assert abs(largest - 24) < 0.1, 'this has changed: the largest acceleration at 240 Hz'
PY
