#!/usr/bin/env bash
# bvhTools 1.6.0 (resampleFPS), pose-format 0.15.0 (interpolate): another frame rate, another speed.
#
# Expected: from 120 to 30 frames a second every fourth frame is kept: 0, 4, 8 …, and who walks at
#           1 m/s still does.
# Seen:     both pin the first and the last frame of the old clip to those of the new one, though N
#           frames span N - 1 intervals. 12 frames become 0, 5.5 and 11, not 0, 4 and 8, and still
#           say 30 a second: the walk is 37.5 % too fast. 120 frames: 2.6 %. Upwards it is too slow.
# Matters:  the shorter the clip, the larger the change, so a data set of clips of all lengths gets as
#           many speeds, and labels or a second sensor drift against the poses.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet bvhTools==1.6.0 pose-format==0.15.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from bvhTools.bvhIO import readBvh
from bvhTools.bvhMotionEditor import resampleFPS
from pose_format.numpy import NumPyPoseBody

HEADER = """HIERARCHY
ROOT Hips
{
OFFSET 0 0 0
CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
End Site
{
OFFSET 0 10 0
}
}
MOTION
"""


def by_bvhtools(x, rate, wanted):
    frames = ''.join(f'{place} 0 0 0 0 0\n' for place in x)
    open('a.bvh', 'w').write(f'{HEADER}Frames: {len(x)}\nFrame Time: {1 / rate}\n{frames}')
    motion = resampleFPS(readBvh('a.bvh'), wanted).motion
    return np.array([frame[0] for frame in motion.frames]), 1 / motion.frameTime


def by_pose_format(x, rate, wanted):
    data = np.zeros((len(x), 1, 1, 3))
    data[:, 0, 0, 0] = x
    body = NumPyPoseBody(rate, data, np.ones((len(x), 1, 1))).interpolate(wanted, kind='linear')
    return np.asarray(body.data)[:, 0, 0, 0], body.fps


def speed(resample, frames, rate, wanted):
    x, said = resample(np.arange(frames) / rate, rate, wanted)  # 1 m/s
    seen = (x[-1] - x[0]) / (len(x) - 1) * said
    places = f', at the old frames {(x * rate).round(2).tolist()}' if len(x) < 5 else ''
    print(f'  {frames} frames from {rate} to {wanted}: {len(x)} frames{places}, {seen:.3f} m/s')
    return seen


for name, resample in (('bvhTools', by_bvhtools), ('pose-format', by_pose_format)):
    print(name, version(name), '(1 m/s expected)')
    assert abs(speed(resample, 12, 120, 30) - 1.375) < 0.001, 'this has changed: 12 frames'
    assert abs(speed(resample, 120, 120, 30) - 1.026) < 0.001, 'this has changed: 120 frames'
    assert abs(speed(resample, 12, 30, 120) - 0.936) < 0.001, 'this has changed: upwards'
PY
