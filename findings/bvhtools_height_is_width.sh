#!/usr/bin/env bash
# bvhTools 1.6.0: dividing a skeleton by its 'height' divides it by its width.
#
# Expected: getSkeletonDim('height') is the extent of the first frame along y, 'width' along x, and
#           getFKAtFrameNormalized, which divides by 'height' if not told otherwise, gives people
#           who are 1 high.
# Seen:     the three numbers are stored as height, width, depth, and looked up as width, height,
#           depth: 'height' is the width and 'width' the height.
# Matters:  the width of the first frame is a matter of the pose: normalised, the same person is
#           larger with hanging arms than with arms stretched out. Recordings cannot be compared,
#           and each alone looks plausible.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet bvhTools==1.6.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from bvhTools.bvhIO import readBvh

ROTATION = 'CHANNELS 3 Zrotation Xrotation Yrotation'
SKELETON = f"""HIERARCHY
ROOT Hips
{{
OFFSET 0 0 0
CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
JOINT Head
{{
OFFSET 0 150 0
{ROTATION}
End Site
{{
OFFSET 0 30 0
}}
}}
JOINT Hand
{{
OFFSET 90 0 0
{ROTATION}
End Site
{{
OFFSET 0 0 5
}}
}}
}}
MOTION
Frames: 1
Frame Time: 0.01
"""
open('a.bvh', 'w').write(SKELETON + ' '.join(12 * ['0']) + '\n')
clip = readBvh('a.bvh')
found = {name: clip.getSkeletonDim(name) for name in ('height', 'width', 'depth')}
top = clip.getFKAtFrameNormalized(0)['Head_EndSite'][1][1]
print('bvhTools', version('bvhTools'))
print('180 along y, 90 along x, 5 along z; said:', {name: float(found[name]) for name in found})
print(f'top of the normalised head, expected 1, seen {top:.0f}')
assert (found['height'], found['width']) == (90, 180), 'this has changed: height is the height'
assert top == 2, 'this has changed: normalised by the height'
PY
