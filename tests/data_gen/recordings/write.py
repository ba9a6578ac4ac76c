"""Writes the recordings in this folder, of the body in known_body.py, with the libraries that people
use. The tests need none of them.

    python -m venv v && v/bin/pip install ezc3d==1.7.2 opensim==4.6 pose2sim==0.10.49 sports2d==0.8.34
    PYTHONPATH=. v/bin/python tests/data_gen/recordings/write.py
"""

import os
import shutil
import sys
from pathlib import Path

import ezc3d
import numpy as np
import opensim
import pandas as pd
from Pose2Sim.common import convert_to_c3d
from Pose2Sim.poseEstimation import save_to_openpose
from Pose2Sim.triangulation import make_trc
from Sports2D.process import make_trc_with_trc_data, trc_data_from_XYZtime

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from known_body import GAIT, PIXELS, PLACE, POSE2SIM, actors, wear  # noqa: E402

from data_gen.joint_maps import SKELETONS  # noqa: E402


def main():
    os.chdir(HERE)  # some write the path they are given into the file
    write_openpose()
    write_pose2sim()
    write_sports2d()
    write_opensim()
    write_ezc3d()
    note_what_ezc3d_reads()


def write_openpose():
    """Four frames of two people, in pixels; nobody is seen in the third, and no left ear in the
    second.
    """
    people = wear(actors(4, 2), SKELETONS['halpe26'].names)[..., :2] * (-PIXELS, -PIXELS) + PLACE
    people[1, :, 3] = np.nan
    for frame, found in enumerate(people):
        found = found[:0] if frame == 2 else found
        file = HERE / 'pose2sim_json' / f'cam1_{frame + 98:06d}.json'
        save_to_openpose(file, found.round(2), np.full(found.shape[:2], 0.8))


def write_pose2sim():
    """Pose2Sim's .trc of twelve frames at 60 a second, two of them without the left wrist; and its
    .c3d of the same.
    """
    body = wear(actors()[:, 0], POSE2SIM.values())
    body[3:5, [*POSE2SIM].index('LWrist')] = np.nan
    z_up = body[..., [2, 0, 1]]  # Pose2Sim makes y up of it
    frames = pd.DataFrame(z_up.reshape(len(body), -1).round(5), range(40, 52))
    config = {'project': {'project_dir': str(HERE / 'pose2sim'), 'frame_rate': 60}}
    (HERE / 'pose2sim').mkdir()
    path = HERE / 'pose2sim.trc'
    make_trc(config, frames, list(POSE2SIM)).rename(path)
    convert_to_c3d(path)
    shutil.rmtree(HERE / 'pose2sim')


def write_sports2d():
    """Sports2D's .trc of eight frames in pixels, which it calls metres."""
    body = wear(actors(8)[:, 0], POSE2SIM.values())[..., :2] * (-PIXELS, -PIXELS) + PLACE
    x, y, z = (
        pd.DataFrame(numbers.round(2), columns=list(POSE2SIM))
        for numbers in (body[..., 0], body[..., 1], np.zeros(body.shape[:2]))
    )
    data = trc_data_from_XYZtime(x, y, z, pd.Series(np.arange(8) / 30, name='time'))
    make_trc_with_trc_data(data, 'sports2d_px.trc', 30)


def write_opensim():
    """OpenSim's .trc of eight frames at 30 a second, in metres, though it says mm if not told."""
    body = wear(actors(8)[:, 0], POSE2SIM.values())
    table = opensim.TimeSeriesTableVec3()
    table.setColumnLabels(list(POSE2SIM))
    for frame, joints in enumerate(body):
        row = opensim.RowVectorVec3([opensim.Vec3(*joint) for joint in joints.round(5)])
        table.appendRow(frame / 30, row)
    table.addTableMetaDataString('DataRate', '30')
    table.addTableMetaDataString('Units', 'mm')
    opensim.TRCFileAdapter().write(table, 'opensim.trc')


def write_ezc3d():
    """Plug-in Gait's 39 markers, an angle and a power, of fifteen frames at 100 a second; of the two
    people in the file one is there from the sixth on, and RWRA of the other lacks in two frames.
    """
    people = wear(actors(15, 2), GAIT.values())
    labels = [f'{who}:{name}' for who in ('Ann', 'Bob') for name in (*GAIT, 'LHipAngles')]
    z_up = (people * (-1, 1, 1))[..., [0, 2, 1]] * 1000
    z_up[:5, 1] = np.nan
    z_up[7:9, 0, [*GAIT].index('RWRA')] = np.nan
    z_up = np.pad(z_up, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=30)
    file = ezc3d.c3d()
    point = file['parameters']['POINT']
    point['RATE']['value'], point['UNITS']['value'] = [100], ['mm']
    point['LABELS']['value'] = labels
    points = z_up.reshape(15, -1, 3).transpose(2, 1, 0)
    file['data']['points'] = np.concatenate([points, np.ones_like(points[:1])])
    file.write('ezc3d.c3d')


def note_what_ezc3d_reads():
    """For tests without the library."""
    for name in ('ezc3d', 'pose2sim'):
        file = ezc3d.c3d(f'{name}.c3d')
        point = file['parameters']['POINT']
        kept = {
            key: point[key]['value']
            for key in ('LABELS', 'UNITS', 'RATE', 'Y_SCREEN')
            if key in point
        }
        data = file['data']
        np.savez_compressed(
            f'{name}_c3d.npz',
            points=data['points'].astype('f4'),
            residuals=data['meta_points']['residuals'].astype('i1'),
            **kept,
        )


if __name__ == '__main__':
    main()
