"""Maps other skeletons to the 25 joints of NTU RGB+D, by one matrix each, and turns their axes.

A joint of the same name is copied; the others follow the rules below. Their weights are rounded
from recordings of people by Kinect v2 (IntelliRehabDS; Miron et al., Data 2021, 6(5), 46, CC BY
4.0).
"""

from typing import NamedTuple

import numpy as np


class Skeleton(NamedTuple):
    """How other projects order the joints, and how to make those of NTU RGB+D from them."""

    names: tuple  # in the order of the data
    # {NTU joint: {joint: weight}} for the middle and the left; the right side mirrors the left
    rules: dict
    axes: str  # that such data usually have


def sided(joints, *sides):
    return tuple(f'{side} {joint}' for joint in joints.split() for side in sides)


LIMBS = tuple(
    name
    for limb in ('shoulder elbow wrist hand', 'hip knee ankle foot')
    for side in ('left', 'right')
    for name in sided(limb, side)
)
NTU25 = (
    'spine base',
    'spine middle',
    'neck',
    'head',
    *LIMBS,
    'spine top',
    *sided('tip thumb', 'left'),
    *sided('tip thumb', 'right'),
)  # tip: of the hand

# A rule may use joints that another rule makes.
NECK = {'neck': {'spine top': 2 / 3, 'head': 1 / 3}}
TRUNK = NECK | {
    'spine base': {'left hip': 0.5, 'right hip': 0.5},
    'spine top': {'left shoulder': 0.5, 'right shoulder': 0.5},
    'spine middle': {'spine base': 0.4, 'spine top': 0.6},
    'head': {'left ear': 0.5, 'right ear': 0.5},
}
FOREARM = {
    'left hand': {'left wrist': 1.3, 'left elbow': -0.3},
    'left tip': {'left wrist': 1.6, 'left elbow': -0.6},
    'left thumb': {'left hand': 1},
}
TOES = {'left foot': {'left ankle': 0.5, 'left toe': 0.5}}
SKELETONS = {
    'ntu25': Skeleton(NTU25, {}, 'kinect'),
    # The order of the Kinect v1 SDK, as in UT-Kinect. The files of MSR Action3D have another order.
    'kinect20': Skeleton(
        ('spine base', 'spine middle', 'spine top', 'head', *LIMBS),
        NECK
        | {'left tip': {'left hand': 1.75, 'left wrist': -0.75}, 'left thumb': {'left hand': 1}},
        'kinect',
    ),
    # It has no hands and feet: they extend forearm and shin.
    'coco17': Skeleton(
        ('nose', *sided('eye ear shoulder elbow wrist hip knee ankle', 'left', 'right')),
        TRUNK | FOREARM | {'left foot': {'left ankle': 1.15, 'left knee': -0.15}},
        'image',
    ),
    # OpenPose's BODY_25. Its neck is the middle of the shoulders, and its mid hip that of the hips.
    'body25': Skeleton(
        (
            'nose',
            'spine top',
            *sided('shoulder elbow wrist', 'right'),
            *sided('shoulder elbow wrist', 'left'),
            'spine base',
            *sided('hip knee ankle', 'right'),
            *sided('hip knee ankle', 'left'),
            *sided('eye ear', 'right', 'left'),
            *sided('toe small-toe heel', 'left'),
            *sided('toe small-toe heel', 'right'),
        ),
        TRUNK | FOREARM | TOES,
        'image',
    ),
    # Its pinky and index are knuckles.
    'mediapipe33': Skeleton(
        (
            'nose',
            *sided('inner-eye eye outer-eye', 'left'),
            *sided('inner-eye eye outer-eye', 'right'),
            *sided(
                'ear mouth shoulder elbow wrist pinky index thumb hip knee ankle heel toe',
                'left',
                'right',
            ),
        ),
        TRUNK
        | TOES
        | {
            'left hand': {'left wrist': 1 / 3, 'left pinky': 1 / 3, 'left index': 1 / 3},
            'left tip': {'left pinky': 0.8, 'left index': 0.8, 'left wrist': -0.6},
        },
        'image',
    ),
}
# kinect: y up, x to the sensor's left, z away from it, as in NTU RGB+D. image: y down, x to the
# picture's right, z away from the camera. A half turn about z takes one to the other. Do not flip y
# alone: that mirrors people, so that their shoulders point against x, and normalisation, which
# turns them along x, would put many of them upside down.
AXES = {'kinect': (1, 1, 1), 'image': (-1, -1, 1)}


def matrix(skeleton: Skeleton) -> np.ndarray:
    """The weights (25, J) that make NTU joints of a Skeleton's J joints; each row sums to 1."""
    rules = skeleton.rules | {
        mirrored(joint): {mirrored(name): weight for name, weight in weights.items()}
        for joint, weights in skeleton.rules.items()
    }

    def row(joint):
        if joint in skeleton.names:
            return np.eye(len(skeleton.names))[skeleton.names.index(joint)]
        return sum(weight * row(name) for name, weight in rules[joint].items())

    return np.stack([row(joint) for joint in NTU25])


def mirrored(name: str) -> str:
    """The same joint on the other side; a joint in the middle is its own mirror image."""
    other_side = {'left': 'right', 'right': 'left'}
    return ' '.join(other_side.get(word, word) for word in name.split())


def to_ntu(poses: np.ndarray, joints: str, axes: str) -> np.ndarray:
    """Poses (…, J, 3) of SKELETONS[joints] in AXES[axes] -> (…, 25, 3) in those of NTU RGB+D."""
    return matrix(SKELETONS[joints]) @ poses * AXES[axes]
