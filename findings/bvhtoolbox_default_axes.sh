#!/usr/bin/env bash
# bvhtoolbox 0.1.3: without `axes`, a turn to the side becomes a roll.
#
# Expected: get_rotation_matrices(tree, joint), get_quaternions and get_affines turn as the joint's
#           channels say; nearly every .bvh has Zrotation Xrotation Yrotation.
# Seen:     the default is axes='rzxz', the Euler angles z, x, z. The three channels are put in as
#           they are, so the angle about the vertical y turns about z. With axes='rzxy' all is well.
# Matters:  Hips that face the camera, then turn by 90 degrees, fall over sideways instead. The result
#           is a proper rotation, the identity stays the identity, and small turns stay small.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet bvhtoolbox==0.1.3 numpy==2.4.6 scipy==1.17.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from bvhtoolbox import BvhTree
from bvhtoolbox.bvhtransforms import get_affines, get_quaternions, get_rotation_matrices
from scipy.spatial.transform import Rotation

tree = BvhTree("""HIERARCHY
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
Frames: 1
Frame Time: 0.01
0 0 0 0 0 90
""")
expected = Rotation.from_euler('ZXY', [0, 0, 90], degrees=True)
seen = Rotation.from_matrix(get_rotation_matrices(tree, 'Hips')[0])
print('bvhtoolbox', version('bvhtoolbox'))
print('axis times degrees, expected', expected.as_rotvec(degrees=True).round(6).tolist())
print('axis times degrees, seen    ', seen.as_rotvec(degrees=True).round(6).tolist())
named = get_rotation_matrices(tree, 'Hips', axes='rzxy')[0]
assert np.allclose(named, expected.as_matrix())
about_z = Rotation.from_euler('Z', 90, degrees=True)
assert np.allclose(seen.as_matrix(), about_z.as_matrix()), 'this has changed: the matrices'
assert np.allclose(get_affines(tree, 'Hips')[0, :3, :3], seen.as_matrix())
quaternion = get_quaternions(tree, 'Hips')[0]  # w x y z
assert np.allclose(quaternion, about_z.as_quat()[[3, 0, 1, 2]]), 'this has changed: quaternions'
PY
