#!/usr/bin/env bash
# aeon 1.6.0: the Euclidean distance of clips of unequal length ends with the shorter one.
#
# Expected: an error, as for arrays of unequal shape, or a distance that minds the rest.
# Seen:     what is beyond the end of the shorter clip counts nothing. A clip of two frames is at
#           distance 0 from every clip that starts like it, and is the nearest neighbour of all:
#           KNeighborsTimeSeriesClassifier(distance='euclidean') gives each its label. Manhattan,
#           squared and Minkowski distances do the same. An example of the documentation has
#           unequal lengths; it does not say which frames are compared.
# Matters:  clips of actions have all lengths and start alike, at rest. One short clip in the training
#           set turns k-NN into its label, with no NaN and no warning. Resample first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet aeon==1.6.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import aeon
import numpy as np
from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
from aeon.distances import dtw_distance, euclidean_distance, manhattan_distance


def clip(speed, frames):
    """A hand (3, frames) that rests for two frames, and then moves along x."""
    hand = np.zeros((3, frames))
    hand[0, 2:] = speed * np.arange(1, frames - 1)
    return hand


wave, push, cut = clip(1, 50), clip(3, 50), clip(0, 2)
print('aeon', aeon.__version__)
for distance in (euclidean_distance, manhattan_distance, dtw_distance):
    found = [round(float(distance(wave, other))) for other in (push, cut)]
    print(f'{distance.__name__}: wave to push {found[0]}, wave to cut {found[1]}')
assert euclidean_distance(wave, cut) == 0, 'this has changed: Euclidean distance'
assert manhattan_distance(wave, cut) == 0, 'this has changed: Manhattan distance'
assert dtw_distance(wave, cut) > 0
classifier = KNeighborsTimeSeriesClassifier(n_neighbors=1, distance='euclidean')
classifier.fit([wave, push, cut], np.array(['wave', 'push', 'cut']))
seen = list(map(str, classifier.predict([clip(1.1, 50), clip(2.9, 50)])))
print("expected ['wave', 'push'], seen", seen)
assert seen == ['cut', 'cut'], 'this has changed: the nearest neighbours'
PY
