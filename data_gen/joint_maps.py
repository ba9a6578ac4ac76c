"""Maps other skeletons to the 25 joints of NTU RGB+D, by one matrix each, and turns their axes.

A joint of the same name is copied; the others follow the rules below. Their weights are rounded
from recordings of people by Kinect v2 (IntelliRehabDS; Miron et al., Data 2021, 6(5), 46, CC BY
4.0).
"""

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from data_gen.skeleton import SkeletonError


@dataclass(frozen=True)
class Skeleton:
    """How other projects order the joints, and how to make those of NTU RGB+D from them.

    ValueError for a rule of a joint that NTU RGB+D does not have, or from one that is not there.
    """

    origin: str  # whose arrays have this order; '' for joints that are found by name in files
    names: tuple  # in the order of the data
    # {NTU joint: 'weight joint, …'} for the middle and the left; the right side mirrors the left
    rules: dict
    axes: str | None  # that such data usually have

    def __post_init__(self):
        there = {*self.names, *both_sides(STAND_INS | self.rules)}
        unknown = self.rules.keys() - {*NTU25}
        for rule in self.rules.values():
            unknown |= {joint for _, joint in terms(rule)} - there
        if unknown:
            raise ValueError(
                f'a rule names joints that are not there: {", ".join(sorted(unknown))}'
            )


def order(text: str) -> tuple:
    """The names in 'nose, left right: eye ear' -> nose, left eye, right eye, left ear, right ear."""
    names = []
    for group in text.split(', '):
        sides, _, joints = group.rpartition(': ')
        if sides:
            names += [f'{side} {joint}' for joint in joints.split() for side in sides.split()]
        else:
            names.append(group)
    return tuple(names)


def mean(text: str) -> str:
    """The rule of a joint in the middle of those that `order` makes of a text."""
    names = order(text)
    return ', '.join(f'1/{len(names)} {name}' for name in names)


def terms(rule: str) -> list[tuple[float, str]]:
    """'2/3 spine top, 1/3 head' -> [(0.667, 'spine top'), (0.333, 'head')]."""
    pairs = [term.split(' ', 1) for term in rule.split(', ')]
    return [(float(Fraction(weight)), joint) for weight, joint in pairs]


def both_sides(rules: dict) -> dict:
    return rules | {mirrored(joint): mirrored(rule) for joint, rule in rules.items()}


def mirrored(text: str) -> str:
    """The same joints on the other side; a joint in the middle is its own mirror image."""
    other_side = {'left': 'right', 'right': 'left'}
    return ' '.join(other_side.get(word, word) for word in text.split())


LIMBS = (
    'left: shoulder elbow wrist hand, right: shoulder elbow wrist hand, '
    'left: hip knee ankle foot, right: hip knee ankle foot'
)
NTU25 = order(
    f'spine base, spine middle, neck, head, {LIMBS}, spine top, left: tip thumb, right: tip thumb'
)  # tip: of the hand

# A rule may use joints that another rule makes.
NECK = {'neck': '2/3 spine top, 1/3 head'}
TRUNK = NECK | {
    'spine base': '0.5 left hip, 0.5 right hip',
    'spine top': '0.5 left shoulder, 0.5 right shoulder',
    'spine middle': '0.4 spine base, 0.6 spine top',
    'head': '0.5 left ear, 0.5 right ear',
}
FOREARM = {
    'left hand': '1.3 left wrist, -0.3 left elbow',
    'left tip': '1.6 left wrist, -0.6 left elbow',
    'left thumb': '1 left hand',
}
TOES = {'left foot': '0.5 left ankle, 0.5 left toe'}
SHIN = {'left foot': '1.15 left ankle, -0.15 left knee'}  # without toes
TIP = {'left tip': '1.75 left hand, -0.75 left wrist', 'left thumb': '1 left hand'}
CROWN = {'head': '1/3 spine top, 2/3 crown'}  # crown: the top of the skull
STAND_INS = TRUNK | FOREARM | SHIN  # for joints that a recording never shows

SOLES = 'left: toe small-toe heel, right: toe small-toe heel'
COCO = 'nose, left right: eye ear shoulder elbow wrist hip knee ankle'
ARMS = 'nose, spine top, right: shoulder elbow wrist, left: shoulder elbow wrist'  # OpenPose's
LEGS = 'right: hip knee ankle, left: hip knee ankle'
SKELETONS = {
    'ntu25': Skeleton('NTU RGB+D, Kinect v2', NTU25, {}, 'kinect'),
    # The order of the Kinect v1 SDK.
    'kinect20': Skeleton(
        'Kinect v1, UT-Kinect',
        order(f'spine base, spine middle, spine top, head, {LIMBS}'),
        NECK | TIP,
        'kinect',
    ),
    # Public lists disagree about left and right here; the check for mirrored bodies tells.
    'msr20': Skeleton(
        'MSR Action3D',
        order(
            'left right: shoulder, spine top, spine middle, left right: hip, spine base, '
            'left right: elbow wrist hand knee ankle foot, head'
        ),
        NECK | TIP,
        'kinect',
    ),
    # Its neck lies at the base of the neck, as the middle of its clavicles does.
    'azure32': Skeleton(
        'Azure Kinect',
        order(
            'spine base, spine middle, chest, neck base, '
            'left: clavicle shoulder elbow wrist hand tip thumb, '
            'right: clavicle shoulder elbow wrist hand tip thumb, '
            'left: hip knee ankle foot, right: hip knee ankle foot, '
            'head, nose, left: eye ear, right: eye ear'
        ),
        NECK | {'spine top': '0.5 neck base, 0.25 left clavicle, 0.25 right clavicle'},
        'image',
    ),
    # By the numbers of its enum. Fingertips and feet have a number, but are never given.
    'nuitrack': Skeleton(
        'Nuitrack',
        order(
            'unused, head, neck, spine middle, spine base, spine top, '
            'left: shoulder elbow wrist hand unused-tip, unused collar, '
            'right: shoulder elbow wrist hand unused-tip, '
            'left: hip knee ankle unused-foot, right: hip knee ankle unused-foot'
        ),
        SHIN | TIP,
        None,
    ),
    'coco17': Skeleton('COCO', order(COCO), TRUNK | FOREARM | SHIN, 'image'),
    'coco25': Skeleton(
        'rtmlib, ViTPose',
        order(
            'nose, left right: eye ear, spine top, left right: shoulder elbow wrist hip, '
            f'spine base, left right: knee ankle, {SOLES}'
        ),
        TRUNK | FOREARM | TOES,
        'image',
    ),
    # The last are those of the face and the hands.
    'coco133': Skeleton(
        'COCO-WholeBody',
        order(f'{COCO}, {SOLES}') + tuple(f'unused {number}' for number in range(23, 133)),
        TRUNK | FOREARM | TOES,
        'image',
    ),
    'halpe26': Skeleton(
        'Halpe',
        order(f'{COCO}, crown, spine top, spine base, left right: toe small-toe heel'),
        TRUNK | FOREARM | TOES,
        'image',
    ),
    'h36m17': Skeleton(
        'Human3.6M',
        order(
            f'spine base, {LEGS}, spine middle, spine top, face, crown, '
            'left: shoulder elbow wrist, right: shoulder elbow wrist'
        ),
        NECK | CROWN | FOREARM | SHIN,
        'image',
    ),
    # OpenPose's neck is the middle of the shoulders, and its mid hip that of the hips.
    'openpose18': Skeleton(
        "OpenPose's COCO",
        order(f'{ARMS}, {LEGS}, right left: eye ear'),
        TRUNK | FOREARM | SHIN,
        'image',
    ),
    'body25': Skeleton(
        "OpenPose's BODY_25",
        order(f'{ARMS}, spine base, {LEGS}, right left: eye ear, {SOLES}'),
        TRUNK | FOREARM | TOES,
        'image',
    ),
    # Of its .trc and .c3d; some of its models have no crown, but ears, and some have no toes.
    'pose2sim': Skeleton(
        '',
        order(
            'spine base, spine top, crown, left right: hip knee ankle toe shoulder elbow wrist ear'
        ),
        TRUNK | FOREARM | TOES | CROWN,
        'kinect',
    ),
    # Markers on the skin, 3 to 5 cm outside the joints: judgement, not measured. SUNK: see
    # data_gen/markers.py.
    'plugingait': Skeleton(
        '',
        order(
            'C7, CLAV, T10, STRN, '
            'left right: FHD BHD shoulder elbow WRA WRB hand ASI PSI SUNK knee ankle foot'
        ),
        NECK
        | TIP
        | {
            'head': mean('left right: FHD BHD'),
            'spine top': mean('C7, CLAV'),
            'spine middle': mean('T10, STRN, spine base, spine base'),
            'spine base': mean('left right: ASI PSI'),
            'left wrist': mean('left: WRA WRB'),
            'left hip': mean('left: SUNK SUNK SUNK, spine base, spine base'),
        },
        'zup',
    ),
    # Its pinky and index are knuckles.
    'mediapipe33': Skeleton(
        'MediaPipe',
        order(
            'nose, left: inner-eye eye outer-eye, right: inner-eye eye outer-eye, left right: '
            'ear mouth shoulder elbow wrist pinky index thumb hip knee ankle heel toe'
        ),
        TRUNK
        | TOES
        | {
            'left hand': '1/3 left wrist, 1/3 left pinky, 1/3 left index',
            'left tip': '0.8 left pinky, 0.8 left index, -0.6 left wrist',
        },
        'image',
    ),
}
# Which axis (1 to 3) of the data is each of NTU RGB+D's x (to the sensor's left), y (up) and z (away
# from it); negative: turned round. Do not flip y alone: that mirrors people, so that their shoulders
# point against x, and normalisation, which turns them along x, would put many of them upside down.
AXES = {
    'kinect': (1, 2, 3),  # as NTU RGB+D
    'image': (-1, -2, 3),  # x to the picture's right, y down, z away from the camera
    'zup': (-1, 3, 2),  # x to the right, y away, z up
    'unity': (-1, 2, 3),  # x to the right, y up, z away: left-handed
    'mmpose3d': (1, 3, 2),  # as mmpose writes 3-D poses: y away, z up, and mirrored
}


def matrix(skeleton: Skeleton, lost=()) -> np.ndarray:
    """The weights (25, J) that make NTU joints of a Skeleton's J joints; each row sums to 1.

    SkeletonError if a joint cannot be made without those of the names `lost`.
    """
    choices = both_sides(skeleton.rules), both_sides(STAND_INS)

    def row(joint):
        if joint in skeleton.names and joint not in lost:
            return np.eye(len(skeleton.names))[skeleton.names.index(joint)]
        for rules in choices:
            if joint in rules:
                with suppress(SkeletonError):
                    return sum(weight * row(name) for weight, name in terms(rules[joint]))
        raise SkeletonError(f'the {joint} is never seen')

    return np.stack([row(joint) for joint in NTU25])


def to_ntu(poses: np.ndarray, joints: str, axes: str, lost=()) -> np.ndarray:
    """Poses (…, J, 3) of SKELETONS[joints] in AXES[axes] -> (…, 25, 3) in those of NTU RGB+D.

    lost: names of joints that must not be used; see `matrix`.
    """
    return turn_axes(matrix(SKELETONS[joints], lost) @ poses, axes)


def turn_axes(points: np.ndarray, axes: str) -> np.ndarray:
    """Points (…, 3) in AXES[axes] in the axes of NTU RGB+D."""
    columns = np.abs(AXES[axes]) - 1
    return points.take(columns, -1) * np.sign(AXES[axes])
