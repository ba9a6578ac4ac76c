"""Reads recordings as other tools write them: folders of OpenPose-like JSON, Azure Kinect's JSON,
.trc and .c3d (data_gen/markers.py).
"""

import json
import re
from pathlib import Path

import numpy as np

from data_gen.joint_maps import SKELETONS, matrix
from data_gen.markers import read_c3d, read_trc
from data_gen.poses import metres_a_pixel
from data_gen.skeleton import SkeletonError
from data_gen.tracks import Poses

# What so many joints are in OpenPose-like JSON, unless --joints is another skeleton of as many
OPENPOSE = {17: 'coco17', 18: 'openpose18', 25: 'body25', 26: 'halpe26', 133: 'coco133'}
NEAR = 0.5  # of a person's size, from one frame to the next
MEMORY = 30  # frames that a person may be out of sight
AZURE = (
    'PELVIS SPINE_NAVEL SPINE_CHEST NECK '
    'CLAVICLE_LEFT SHOULDER_LEFT ELBOW_LEFT WRIST_LEFT HAND_LEFT HANDTIP_LEFT THUMB_LEFT '
    'CLAVICLE_RIGHT SHOULDER_RIGHT ELBOW_RIGHT WRIST_RIGHT HAND_RIGHT HANDTIP_RIGHT THUMB_RIGHT '
    'HIP_LEFT KNEE_LEFT ANKLE_LEFT FOOT_LEFT HIP_RIGHT KNEE_RIGHT ANKLE_RIGHT FOOT_RIGHT '
    'HEAD NOSE EYE_LEFT EAR_LEFT EYE_RIGHT EAR_RIGHT'
)


def read_openpose(folder: str, joints: str, axes: str | None) -> Poses:
    """A folder of JSON, one a frame, as of OpenPose, Pose2Sim and rtmlib: pixels; z is 0.

    The body that is seen most often comes first; its size makes metres of pixels.
    """
    paths = sorted(Path(folder).glob('*.json'), key=frame_number)
    if len({*map(frame_number, paths)}) < len(paths):
        raise SkeletonError('two files have the same number: give each video a folder of its own')
    frames = [read_people(path) for path in paths]
    counts = {len(person) for people in frames for person in people}
    if len(counts) != 1 or not counts <= OPENPOSE.keys():
        raise SkeletonError(f'its people have {counts or "no"} joints, not one of {[*OPENPOSE]}')
    count = counts.pop()
    if joints == 'ntu25' or len(SKELETONS[joints].names) != count:
        joints = OPENPOSE[count]
    tracks = sorted(follow(frames, joints), key=len, reverse=True)
    bodies = np.full((len(frames), len(tracks), count, 3), np.nan)
    for body, track in enumerate(tracks):
        for frame, person in track.items():
            bodies[frame, body] = np.pad(person, ((0, 0), (0, 1)))
    return Poses(bodies * metres_a_pixel(bodies), joints, axes or 'image')


def frame_number(path: Path) -> int:
    """The last number in a file's name."""
    numbers = re.findall(r'\d+', path.stem)
    if not numbers:
        raise SkeletonError(
            f'{path.name} has no number: a folder holds one JSON a frame, no others'
        )
    return int(numbers[-1])


def read_people(path: Path) -> list[np.ndarray]:
    """The people (J, 2) of one frame; NaN for a joint that is not seen."""
    try:
        people = json.loads(path.read_text('utf-8-sig'))['people']
        poses = [np.array(each['pose_keypoints_2d'], float).reshape(-1, 3) for each in people]
    except (ValueError, TypeError, KeyError) as error:
        raise SkeletonError(f'{path.name} is no frame of OpenPose: {error!r}') from None
    for pose in poses:
        pose[(pose[:, :2] == 0).all(1)] = np.nan
    return [pose[:, :2] for pose in poses if np.isfinite(pose[:, :2]).any()]


def follow(frames: list[list[np.ndarray]], joints: str) -> list[dict]:
    """The {frame: person (J, 2)} of each body. The nearest pair of a body and a person comes first;
    a person who is near none is a new body.
    """
    hips = np.flatnonzero(matrix(SKELETONS[joints])[0])
    tracks = []
    for frame, people in enumerate(frames):
        recent = [track for track in tracks if frame - max(track) <= MEMORY]
        pairs = [
            (distance(track[max(track)], person, hips), body, new)
            for body, track in enumerate(recent)
            for new, person in enumerate(people)
        ]
        waiting = dict(enumerate(people))
        for far, body, new in sorted(pairs):
            if far < NEAR and new in waiting and frame not in recent[body]:
                recent[body][frame] = waiting.pop(new)
        tracks += [{frame: person} for person in waiting.values()]
    return tracks


def distance(last: np.ndarray, person: np.ndarray, hips: np.ndarray) -> float:
    """How far the hips, or what is seen, of two poses (J, 2) are apart, in sizes of the second."""
    places = []
    for pose in (last, person):
        found = pose[hips] if np.isfinite(pose[hips]).any() else pose
        places.append(np.nanmean(found, 0))
    return np.linalg.norm(places[1] - places[0]) / extent(person)


def extent(person: np.ndarray) -> float:
    """The larger of the width and height of a person (J, 2)."""
    return (np.nanmax(person, 0) - np.nanmin(person, 0)).max()


def read_azure(path: str, joints: str, axes: str | None) -> Poses:
    """The JSON that Azure Kinect's offline_processor writes, in millimetres."""
    content = json.loads(Path(path).read_text('utf-8-sig'))
    if 'joint_names' not in content:
        raise SkeletonError("not of Azure Kinect's offline_processor; of OpenPose list the folder")
    names = [name.replace('NAVAL', 'NAVEL') for name in content['joint_names']]
    order = [names.index(name) for name in AZURE.split()]
    frames = content['frames']
    ids = sorted({body['body_id'] for frame in frames for body in frame['bodies']})
    bodies = np.full((len(frames), len(ids), len(order), 3), np.nan)
    for row, frame in zip(bodies, frames, strict=True):
        for body in frame['bodies']:
            row[ids.index(body['body_id'])] = np.array(body['joint_positions'])[order] / 1000
    seconds = np.array([frame['timestamp_usec'] for frame in frames]) / 1e6
    return Poses(bodies, 'azure32', axes or 'image', seconds)


READERS = {'': read_openpose, '.json': read_azure, '.trc': read_trc, '.c3d': read_c3d}
