"""The maps of other skeletons to NTU RGB+D's: on poses made in each skeleton, as its own data would
have them.
"""

import re

import numpy as np
import pytest

from data_gen.joint_maps import (
    AXES,
    NTU25,
    SKELETONS,
    Skeleton,
    matrix,
    mirrored,
    to_ntu,
)
from data_gen.preprocess import normalize

OTHERS = pytest.mark.parametrize('joints', [joints for joints in SKELETONS if joints != 'ntu25'])
# A T-pose of somebody who faces the sensor, in `kinect` axes: the middle and the right side, in
# metres.
T_POSE = {
    'spine base': (0, 0, 3),
    'spine middle': (0, 0.28, 3),
    'spine top': (0, 0.49, 3),
    'neck': (0, 0.56, 3),
    'head': (0, 0.7, 3),
    'nose': (0, 0.7, 2.9),
    'ear': (0.07, 0.7, 3),
    'eye': (0.03, 0.73, 2.92),
    'inner-eye': (0.02, 0.73, 2.92),
    'outer-eye': (0.05, 0.73, 2.93),
    'mouth': (0.03, 0.65, 2.91),
    'shoulder': (0.17, 0.47, 3),
    'elbow': (0.42, 0.47, 3),
    'wrist': (0.65, 0.47, 3),
    'hand': (0.72, 0.47, 3),
    'pinky': (0.74, 0.46, 3.02),
    'index': (0.74, 0.48, 2.98),
    'thumb': (0.7, 0.47, 2.95),
    'tip': (0.79, 0.47, 3),
    'hip': (0.09, 0, 3),
    'knee': (0.1, -0.4, 3),
    'ankle': (0.1, -0.76, 3),
    'heel': (0.1, -0.8, 3.03),
    'toe': (0.12, -0.82, 2.85),
    'small-toe': (0.14, -0.82, 2.87),
    'foot': (0.12, -0.82, 2.9),
    'chest': (0, 0.36, 3),
    'neck base': (0, 0.49, 3),
    'clavicle': (0.03, 0.49, 3),
    'face': (0, 0.66, 2.93),
    'crown': (0, 0.82, 3),
    'C7': (0, 0.52, 3.06),
    'CLAV': (0, 0.46, 2.94),
    'T10': (0, 0.46, 3.1),
    'STRN': (0, 0.46, 2.9),
    'FHD': (0.07, 0.7, 2.92),
    'BHD': (0.07, 0.7, 3.08),
    'WRA': (0.65, 0.49, 2.97),
    'WRB': (0.65, 0.45, 3.03),
    'ASI': (0.12, 0.05, 2.96),
    'PSI': (0.05, 0.05, 3.04),
    'SUNK': (0.12, -0.08, 2.96),
}
NOWHERE = (50, 50, 50)  # a joint that no rule may use
# Where x (to the sensor's left), y (up) and z (away) of a point lie in data of these axes.
IN_AXES = {
    'kinect': lambda x, y, z: (x, y, z),
    'image': lambda x, y, z: (-x, -y, z),
    'zup': lambda x, y, z: (-x, z, y),
    'unity': lambda x, y, z: (-x, y, z),
    'mmpose3d': lambda x, y, z: (x, z, y),
}


def t_pose(names):
    """The T-pose (J, 3) of joints by name; the left side mirrors the right."""
    places = [T_POSE.get(re.sub('^(left|right) ', '', name), NOWHERE) for name in names]
    return np.array(places) * [(-1 if name.startswith('left ') else 1, 1, 1) for name in names]


def in_axes(points, axes):
    """Points (…, 3) of NTU RGB+D's axes in others."""
    return np.stack(IN_AXES[axes](*np.moveaxis(points, -1, 0)), -1)


def mapped(joints):
    """{NTU joint: its place} of the T-pose in the skeleton, given in the axes that it usually has."""
    skeleton = SKELETONS[joints]
    axes = skeleton.axes or 'kinect'
    return dict(
        zip(NTU25, to_ntu(in_axes(t_pose(skeleton.names), axes), joints, axes), strict=True)
    )


COUNTS = {name: int(re.sub(r'\D', '', name)[-3:] or 25) for name in SKELETONS} | {'h36m17': 17}
COUNTS |= {'pose2sim': 19, 'plugingait': 30}


def test_names_are_those_of_the_data():
    """The published orders, by some joints each, and the joints that other modules know by number."""
    known = {
        'ntu25': {
            0: 'spine base',
            1: 'spine middle',
            2: 'neck',
            3: 'head',
            4: 'left shoulder',
            7: 'left hand',
            8: 'right shoulder',
            16: 'right hip',
            19: 'right foot',
            20: 'spine top',
            21: 'left tip',
            22: 'left thumb',
            24: 'right thumb',
        },
        'kinect20': {
            0: 'spine base',
            1: 'spine middle',
            2: 'spine top',
            3: 'head',
            4: 'left shoulder',
            7: 'left hand',
            8: 'right shoulder',
            12: 'left hip',
            15: 'left foot',
            19: 'right foot',
        },
        'coco17': {
            0: 'nose',
            1: 'left eye',
            4: 'right ear',
            5: 'left shoulder',
            6: 'right shoulder',
            9: 'left wrist',
            11: 'left hip',
            14: 'right knee',
            16: 'right ankle',
        },
        'body25': {
            0: 'nose',
            1: 'spine top',
            2: 'right shoulder',
            4: 'right wrist',
            7: 'left wrist',
            8: 'spine base',
            9: 'right hip',
            14: 'left ankle',
            15: 'right eye',
            16: 'left eye',
            18: 'left ear',
            19: 'left toe',
            21: 'left heel',
            22: 'right toe',
            24: 'right heel',
        },
        'mediapipe33': {
            0: 'nose',
            2: 'left eye',
            5: 'right eye',
            7: 'left ear',
            10: 'right mouth',
            11: 'left shoulder',
            16: 'right wrist',
            17: 'left pinky',
            20: 'right index',
            21: 'left thumb',
            24: 'right hip',
            29: 'left heel',
            32: 'right toe',
        },
        'azure32': {
            0: 'spine base',
            1: 'spine middle',
            3: 'neck base',
            4: 'left clavicle',
            5: 'left shoulder',
            8: 'left hand',
            9: 'left tip',
            10: 'left thumb',
            12: 'right shoulder',
            17: 'right thumb',
            18: 'left hip',
            21: 'left foot',
            24: 'right ankle',
            26: 'head',
            27: 'nose',
            29: 'left ear',
            31: 'right ear',
        },
        'halpe26': {
            0: 'nose',
            16: 'right ankle',
            17: 'crown',
            18: 'spine top',
            19: 'spine base',
            20: 'left toe',
            21: 'right toe',
            22: 'left small-toe',
            24: 'left heel',
            25: 'right heel',
        },
        'h36m17': {
            0: 'spine base',
            1: 'right hip',
            3: 'right ankle',
            4: 'left hip',
            7: 'spine middle',
            8: 'spine top',
            9: 'face',
            10: 'crown',
            11: 'left shoulder',
            13: 'left wrist',
            16: 'right wrist',
        },
        'coco25': {
            4: 'right ear',
            5: 'spine top',
            6: 'left shoulder',
            7: 'right shoulder',
            10: 'left wrist',
            12: 'left hip',
            14: 'spine base',
            15: 'left knee',
            18: 'right ankle',
            19: 'left toe',
            21: 'left heel',
            24: 'right heel',
        },
        'coco133': {
            0: 'nose',
            5: 'left shoulder',
            16: 'right ankle',
            17: 'left toe',
            19: 'left heel',
            20: 'right toe',
            22: 'right heel',
        },
        'openpose18': {
            0: 'nose',
            1: 'spine top',
            2: 'right shoulder',
            4: 'right wrist',
            5: 'left shoulder',
            8: 'right hip',
            10: 'right ankle',
            13: 'left ankle',
            14: 'right eye',
            17: 'left ear',
        },
        'nuitrack': {
            1: 'head',
            2: 'neck',
            3: 'spine middle',
            4: 'spine base',
            5: 'spine top',
            6: 'left shoulder',
            9: 'left hand',
            12: 'right shoulder',
            15: 'right hand',
            17: 'left hip',
            19: 'left ankle',
            21: 'right hip',
            23: 'right ankle',
        },
        'msr20': {
            0: 'left shoulder',
            1: 'right shoulder',
            2: 'spine top',
            3: 'spine middle',
            4: 'left hip',
            6: 'spine base',
            7: 'left elbow',
            12: 'right hand',
            13: 'left knee',
            17: 'left foot',
            19: 'head',
        },
        'pose2sim': {
            0: 'spine base',
            1: 'spine top',
            2: 'crown',
            3: 'left hip',
            10: 'right toe',
            12: 'right shoulder',
            15: 'left wrist',
            18: 'right ear',
        },
        'plugingait': {
            0: 'C7',
            3: 'STRN',
            4: 'left FHD',
            9: 'right shoulder',
            13: 'right WRA',
            18: 'left ASI',
            20: 'left PSI',
            22: 'left SUNK',
            29: 'right foot',
        },
    }
    assert known.keys() == SKELETONS.keys()
    for joints, names in known.items():
        assert len(set(SKELETONS[joints].names)) == len(SKELETONS[joints].names) == COUNTS[joints]
        assert names == {index: SKELETONS[joints].names[index] for index in names}


@pytest.mark.parametrize('joints', SKELETONS)
def test_rows_sum_to_one(joints):
    weights = matrix(SKELETONS[joints])
    assert weights.shape == (25, COUNTS[joints])
    np.testing.assert_allclose(weights.sum(1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ('rules', 'unknown'),
    [
        ({'left foot': '0.5 left ankel, 0.5 left toe'}, 'left ankel'),
        ({'head': '0.5 nose, 0.5 crown'}, 'crown'),
        ({'left hnd': '1 left wrist'}, 'left hnd'),
        ({'left thumb': '1 left hand', 'left nee': '1 left eer'}, 'left eer, left nee'),
    ],
)
def test_misspelt_joints_of_a_map_are_named(rules, unknown):
    known = SKELETONS['body25']
    Skeleton('mine', known.names, known.rules | {'right thumb': '1 right hand'}, 'image')
    with pytest.raises(ValueError, match=f'joints that are not there: {unknown}$'):
        Skeleton('mine', known.names, known.rules | rules, 'image')


def test_its_own_joints_stay():
    assert (matrix(SKELETONS['ntu25']) == np.eye(25)).all()


@pytest.mark.parametrize('joints', SKELETONS)
def test_left_is_as_right(joints):
    """Mirroring before the map is mirroring after it."""
    names = SKELETONS[joints].names
    before, after = ([group.index(mirrored(name)) for name in group] for group in (names, NTU25))
    assert NTU25[after[4]] == 'right shoulder'
    poses = np.random.default_rng(0).normal(size=(4, len(names), 3))
    np.testing.assert_allclose(
        to_ntu(poses[:, before], joints, 'kinect'),
        to_ntu(poses, joints, 'kinect')[:, after],
        rtol=0,
        atol=1e-12,
    )


@OTHERS
def test_joints_of_both_are_exact_copies(joints):
    names = SKELETONS[joints].names
    both = [name for name in NTU25 if name in names]
    copies = {
        'kinect20': 20,
        'msr20': 20,
        'azure32': 23,
        'nuitrack': 19,
        'coco17': 12,
        'h36m17': 15,
    }
    copies |= {'halpe26': 14, 'body25': 14, 'coco25': 14, 'coco133': 12, 'openpose18': 13}
    copies |= {'mediapipe33': 14, 'pose2sim': 14, 'plugingait': 12}
    assert len(both) == copies[joints]
    poses = np.random.default_rng(0).normal(size=(2, 3, len(names), 3))
    copies = to_ntu(poses, joints, 'kinect')[:, :, [NTU25.index(name) for name in both]]
    assert (copies == poses[:, :, [names.index(name) for name in both]]).all()


@OTHERS
def test_t_pose_is_one_of_ntu(joints):
    found, true = mapped(joints), dict(zip(NTU25, t_pose(NTU25), strict=True))
    heights = [
        found[name][1]
        for name in (
            'head',
            'neck',
            'spine top',
            'spine middle',
            'spine base',
            'left knee',
            'left ankle',
            'left foot',
        )
    ]
    assert heights == sorted(set(heights), reverse=True)
    for name in NTU25:
        side = {'left': -1, 'right': 1}.get(name.split()[0], 0)
        assert np.sign(found[name][0].round(9)) == side, name
        assert found[name][2] > 2.8, name
        assert np.linalg.norm(found[name] - true[name]) < (0.12 if 'foot' in name else 0.06), name
    reach = [found[f'left {name}'][0] for name in ('shoulder', 'elbow', 'wrist', 'hand', 'tip')]
    assert reach == sorted(set(reach), reverse=True)


@OTHERS
def test_normalised_t_pose_stands_upright(joints):
    """What a flip of y alone would not give: it makes the mirror image, which normalisation turns
    over.
    """
    xyz = np.zeros((3, 1, 25, 2))
    xyz[:, 0, :, 0] = np.array(list(mapped(joints).values())).T
    x, y, _ = normalize(xyz)[:, 0, :, 0]
    assert y[3] > y[2] > y[20] > y[1] == 0 > y[0] > y[13] > y[14]
    assert x[4] < 0 < x[8]


@pytest.mark.parametrize('axes', AXES)
def test_axes_are_turned_into_those_of_ntu(axes):
    """Equal to the bit, in the usual order in memory: later sums must not change."""
    points = np.random.default_rng(0).normal(size=(2, 25, 3))
    turned = to_ntu(in_axes(points, axes), 'ntu25', axes)
    assert turned.tobytes() == points.tobytes()
    assert turned.flags.c_contiguous


def test_some_axes_are_those_of_the_mirror():
    """The others are rotations: no pose becomes its mirror image."""
    for axes in AXES:
        handedness = np.linalg.det(in_axes(np.eye(3), axes))
        assert round(handedness) == (-1 if axes in ('unity', 'mmpose3d') else 1)


def test_openpose_joints_come_from_where_they_should():
    """By OpenPose's numbers: NTU joint <- BODY_25 joints and their weights."""
    weights = matrix(SKELETONS['body25'])
    sources = {
        0: {8: 1},
        1: {8: 0.4, 1: 0.6},
        2: {1: 2 / 3, 17: 1 / 6, 18: 1 / 6},
        3: {17: 0.5, 18: 0.5},
        4: {5: 1},
        5: {6: 1},
        6: {7: 1},
        7: {7: 1.3, 6: -0.3},
        8: {2: 1},
        9: {3: 1},
        10: {4: 1},
        11: {4: 1.3, 3: -0.3},
        12: {12: 1},
        13: {13: 1},
        14: {14: 1},
        15: {14: 0.5, 19: 0.5},
        16: {9: 1},
        17: {10: 1},
        18: {11: 1},
        19: {11: 0.5, 22: 0.5},
        20: {1: 1},
        21: {7: 1.6, 6: -0.6},
        22: {7: 1.3, 6: -0.3},
        23: {4: 1.6, 3: -0.6},
        24: {4: 1.3, 3: -0.3},
    }
    for joint, parts in sources.items():
        expected = np.zeros(25)
        expected[list(parts)] = list(parts.values())
        np.testing.assert_allclose(
            weights[joint], expected, rtol=0, atol=1e-12, err_msg=NTU25[joint]
        )


def test_a_body_that_is_not_seen_stays_zero():
    assert not to_ntu(np.zeros((2, 33, 3)), 'mediapipe33', 'image').any()
