"""Other skeletons as the 25 joints of NTU RGB+D, by one matrix each; and which way their axes point.

A joint of the same name is copied, the others are made by the rules below. Their shares are rounded from recordings of
people by Kinect v2 (IntelliRehabDS; Miron et al., Data 2021, 6(5), 46, CC BY 4.0).
"""
from typing import NamedTuple

import numpy as np


class Skeleton(NamedTuple):
    """The joints' names in the order of the data; rules {NTU joint: {joint: share}}; the axes it usually comes with."""
    names: tuple
    rules: dict  # of the middle and the left; the right is as the left
    axes: str


def one_side(side, parts):
    return tuple(f'{side} {part}' for part in parts.split())


def pairs(parts):
    return tuple(f'{side} {part}' for part in parts.split() for side in ('left', 'right'))


LIMBS = tuple(name for limb in ('shoulder elbow wrist hand', 'hip knee ankle foot') for side in ('left', 'right')
              for name in one_side(side, limb))
NTU25 = ('spine base', 'spine middle', 'neck', 'head', *LIMBS, 'spine top',
         *one_side('left', 'tip thumb'), *one_side('right', 'tip thumb'))  # tip: of the hand

# A rule may build on joints that are made themselves.
NECK = {'neck': {'spine top': 2 / 3, 'head': 1 / 3}}
TRUNK = NECK | {'spine base': {'left hip': .5, 'right hip': .5},
                'spine top': {'left shoulder': .5, 'right shoulder': .5},
                'spine middle': {'spine base': .4, 'spine top': .6},
                'head': {'left ear': .5, 'right ear': .5}}
SKELETONS = {
    'ntu25': Skeleton(NTU25, {}, 'kinect'),
    # The order of the Kinect v1 SDK, as in UT-Kinect. The files of MSR Action3D have an order of their own.
    'kinect20': Skeleton(
        ('spine base', 'spine middle', 'spine top', 'head', *LIMBS),
        NECK | {'left tip': {'left hand': 1.75, 'left wrist': -.75},
                'left thumb': {'left hand': 1}}, 'kinect'),
    # It has no hands and feet: they go on in the direction of forearm and shin.
    'coco17': Skeleton(
        ('nose', *pairs('eye ear shoulder elbow wrist hip knee ankle')),
        TRUNK | {'left hand': {'left wrist': 1.3, 'left elbow': -.3},
                 'left tip': {'left wrist': 1.6, 'left elbow': -.6},
                 'left thumb': {'left hand': 1},
                 'left foot': {'left ankle': 1.15, 'left knee': -.15}}, 'image'),
    # Its pinky and index are knuckles.
    'mediapipe33': Skeleton(
        ('nose', *one_side('left', 'inner-eye eye outer-eye'), *one_side('right', 'inner-eye eye outer-eye'),
         *pairs('ear mouth shoulder elbow wrist pinky index thumb hip knee ankle heel toe')),
        TRUNK | {'left hand': {'left wrist': 1 / 3, 'left pinky': 1 / 3, 'left index': 1 / 3},
                 'left tip': {'left pinky': .8, 'left index': .8, 'left wrist': -.6},
                 'left foot': {'left ankle': .5, 'left toe': .5}}, 'image'),
}
# kinect: y up, x to the sensor's left, z away from it, as in NTU RGB+D. image: y down, x to the picture's right, z away
# from the camera. One is the other turned half round z. A flip of y alone would not do: it makes mirror images of
# people, whose shoulders run against x, and normalisation, which turns them along x, then stands many on their heads.
AXES = {'kinect': (1, 1, 1), 'image': (-1, -1, 1)}
OTHER_SIDE = {'left': 'right', 'right': 'left'}


def matrix(skeleton):
    """The weights (25, J) that make NTU joints of a Skeleton's J joints; each row sums to 1."""
    names, rules, _ = skeleton
    rules = rules | {mirrored(joint): {mirrored(name): share for name, share in shares.items()}
                     for joint, shares in rules.items()}

    def weights(joint):
        if joint in names:
            return np.eye(len(names))[names.index(joint)]
        return sum(share * weights(name) for name, share in rules[joint].items())
    return np.stack([weights(joint) for joint in NTU25])


def mirrored(name):
    """The joint on the other side; one in the middle is its own."""
    side, *part = name.split(' ', 1)
    return ' '.join((OTHER_SIDE.get(side, side), *part))


def to_ntu(poses, joints, axes):
    """Poses (…, J, 3) of SKELETONS[joints] in AXES[axes] -> (…, 25, 3) in those of NTU RGB+D."""
    return matrix(SKELETONS[joints]) @ poses * AXES[axes]
