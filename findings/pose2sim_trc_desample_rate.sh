#!/usr/bin/env bash
# Pose2Sim 0.10.49, Utilities/trc_desample.py: 100 to 30 frames a second gives 33.3, and says 30.
#
# Expected: 30 frames a second, or an error where the rates do not divide.
# Seen:     it keeps every int(100 / 30) = third frame, so 33.3 a second, writes DataRate 30 and
#           NumFrames 30 over 34 rows, and numbers them 0, 1, 2 … Only the column Time is right.
#           59 to 30 keeps every frame: 59 a second that say 30.
# Matters:  readers that go by DataRate, as most do, play the recording 11 % (or 97 %) too slowly:
#           speeds, step frequencies and whatever a network learns of them are off.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps pose2sim==0.10.49
"$folder/venv/bin/pip" install --quiet pandas==3.1.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from Pose2Sim.Utilities.trc_desample import trc_desample_func


def desample(rate, wanted, seconds=1):
    count = rate * seconds
    keys = 'DataRate CameraRate NumFrames NumMarkers Units OrigDataRate OrigDataStartFrame OrigNumFrames'
    values = [rate, rate, count, 1, 'm', rate, 0, count]
    lines = ['PathFileType\t4\t(X/Y/Z)\ta.trc', '\t'.join(keys.split())]
    lines += ['\t'.join(map(str, values)), 'Frame#\tTime\tHip\t\t\t', '\t\tX1\tY1\tZ1\t']
    lines += [f'{frame}\t{frame / rate}\t0\t1\t0' for frame in range(count)]
    open('a.trc', 'w').write('\n'.join(lines) + '\n')
    trc_desample_func('a.trc', wanted)
    lines = open(f'a_{wanted}fps.trc').read().splitlines()
    times = [float(line.split('\t')[1]) for line in lines[5:]]
    said = dict(zip(lines[1].split('\t'), lines[2].split('\t')))
    real = (len(times) - 1) / (times[-1] - times[0])
    print(f"{rate} -> {wanted}: DataRate {said['DataRate']}, NumFrames {said['NumFrames']};"
          f' {len(times)} rows at {real:.1f} a second')
    return said, len(times), real


assert abs(desample(100, 50)[2] - 50) < 0.1  # where the rates divide, all is well
said, rows, real = desample(100, 30)
assert (said['DataRate'], rows) == ('30', 34) and abs(real - 100 / 3) < 0.1, 'this has changed'
said, rows, real = desample(59, 30)
assert said['DataRate'] == '30' and abs(real - 59) < 0.1, 'this has changed'
PY
