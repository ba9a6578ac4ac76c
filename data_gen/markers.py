"""Reads recordings of named markers: .trc (Pose2Sim, Sports2D, OpenSim) and .c3d (Vicon, Qualisys …).

Known are the joints of Pose2Sim, and the markers of Plug-in Gait's full body. Other markers, angles,
forces and powers are skipped.
"""

from pathlib import Path

import numpy as np

from data_gen.joint_maps import AXES
from data_gen.poses import LARGEST, PICTURE, SMALLEST
from data_gen.skeleton import SkeletonError
from data_gen.tracks import Poses

# {skeleton: the markers of its joints}
LABELS = {
    'pose2sim': 'HIP NECK HEAD LHIP RHIP LKNEE RKNEE LANKLE RANKLE LBIGTOE RBIGTOE '
    'LSHOULDER RSHOULDER LELBOW RELBOW LWRIST RWRIST LEAR REAR',
    'plugingait': 'C7 CLAV T10 STRN LFHD RFHD LBHD RBHD LSHO RSHO LELB RELB LWRA RWRA LWRB RWRB '
    'LFIN RFIN LASI RASI LPSI RPSI LASI RASI LKNE RKNE LANK RANK LTOE RTOE',
}
SUNK = slice(22, 24)  # copies of the two ASI: 0.6 of a hip is one
SUNK_BY = 0.08 / 0.6  # metres, so that hips lie 0.08 lower than on the way from pelvis to ASI
METRES = {'m': 1, 'mm': 0.001, 'cm': 0.01}


def read_trc(path: str, joints: str, axes: str | None) -> Poses:
    """The body of a .trc; y is up, unless the user's axes say otherwise. Frames may be missing."""
    text = Path(path).read_text('utf-8-sig', 'replace')
    lines = [line.split('\t') for line in text.splitlines()]
    header = dict(zip(*lines[1:3], strict=False))
    labels = [cell for cell in lines[3][2:] if cell.strip()]
    columns = 2 + 3 * len(labels)
    table = np.array([read_row(line, columns) for line in lines[5:] if line[0].strip()])
    number, second = (table[:, :2] - table[0, :2]).T
    # Some headers have a wrong rate, and some times are rounded.
    rate = number[-1] / second[-1] if second[-1] > 0 else float(header['DataRate'])
    markers = table[:, 2:].reshape(len(table), -1, 3)
    poses = to_poses(markers, labels, header.get('Units'), axes, 'kinect')
    return poses._replace(seconds=number / rate)


def read_row(cells: list[str], columns: int) -> list[float]:
    """The numbers of a line; NaN for cells that are empty, or left out at the end."""
    cells += [''] * (columns - len(cells))
    try:
        return [float(cell.strip() or 'nan') for cell in cells[:columns]]
    except ValueError:
        raise SkeletonError(f'frame {cells[0]}: not numbers separated by tabs') from None


def read_c3d(path: str, joints: str, axes: str | None) -> Poses:
    """The bodies of a .c3d: one for each subject, which is the text before the colon of a label."""
    import ezc3d  # optional

    file = ezc3d.c3d(path)
    point = file['parameters']['POINT']
    labels = []
    for name in sorted(point):  # a list ends at 255 labels; LABELS2, LABELS3 … continue it
        labels += point[name]['value'] if name.startswith('LABELS') else []
    markers = file['data']['points'][:3].T
    markers[file['data']['meta_points']['residuals'][0].T < 0] = np.nan
    first = {name: [*entry.get('value', ()), ''][0] for name, entry in point.items()}
    usual = 'kinect' if first.get('Y_SCREEN') == '+Y' else 'zup'
    poses = to_poses(markers, labels, first.get('UNITS'), axes, usual)
    return poses._replace(seconds=np.arange(len(markers)) / first['RATE'])


def to_poses(
    markers: np.ndarray, labels: list[str], unit: str | None, axes: str | None, usual: str
) -> Poses:
    """The bodies of markers (T, N, 3), 0 or NaN if lost, in the user's or the usual AXES.

    Some tools say m and hold mm or pixels: a unit counts if it makes people of bodies.
    """
    markers[(markers == 0).all(-1)] = np.nan
    joints, bodies = find_bodies(markers, labels)
    present = bodies[np.isfinite(bodies).any((2, 3))]
    size = np.median((np.nanmax(present, 1) - np.nanmin(present, 1)).max(-1))
    said = METRES.get(unit, 1)
    fitting = [factor for factor in (said, *METRES.values()) if SMALLEST < size * factor < LARGEST]
    if said not in fitting and not np.nan_to_num(present[..., 2]).any():
        fitting, usual = [PICTURE / size], 'image'  # pixels
    if not fitting:
        raise SkeletonError(f'a body measures {size:.2f}: no person in {unit or "m"}, mm or cm')
    bodies *= fitting[0]
    axes = axes or usual
    if joints == 'plugingait':
        up = AXES[axes][1]
        bodies[..., SUNK, abs(up) - 1] -= np.sign(up) * SUNK_BY
    return Poses(bodies, joints, axes)


def find_bodies(markers: np.ndarray, labels: list[str]) -> tuple[str, np.ndarray]:
    """(the skeleton that the labels belong to, its bodies (T, M, J, 3), one for each subject)."""
    subjects = {}
    for label, track in zip(labels, markers.swapaxes(0, 1), strict=True):
        subject, _, name = label.strip().upper().rpartition(':')
        subjects.setdefault(subject, {})[name] = track
        if name == 'SACR':  # one marker in place of two
            subjects[subject] |= {'LPSI': track, 'RPSI': track}
    gait = any('LASI' in tracks for tracks in subjects.values())
    joints = 'plugingait' if gait else 'pose2sim'
    names = LABELS[joints].split()
    lost = np.full_like(markers[:, 0], np.nan)
    bodies = [
        np.stack([tracks.get(name, lost) for name in names], 1)
        for tracks in subjects.values()
        if tracks.keys() & names
    ]
    if not np.isfinite(bodies).any():
        raise SkeletonError(f'no marker of Pose2Sim or Plug-in Gait among {", ".join(labels)}')
    return joints, np.stack(bodies, 1)
