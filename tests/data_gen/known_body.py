"""A known body in the joints that other tools write: what the recordings in recordings/ hold, and
what their readers must find.
"""

import numpy as np

from data_gen.demo_recordings import ACTIONS, draw_bones, perform
from data_gen.joint_maps import NTU25


def actors(frames=12, people=1, seed=0):
    """The demo's actors (T, M, 25, 3), in metres and the axes of NTU RGB+D; they stand on y = 0."""
    rng = np.random.default_rng(seed)
    bones = [draw_bones(np.random.default_rng(number)) for number in (seed, seed + 1)]
    action = ACTIONS[6 if people == 1 else 2]  # wave, or shake hands
    return perform(action, bones, frames, rng).swapaxes(0, 1)


def dress(body):
    """{name: places (…, 3)} of a body (…, 25, 3): its 25 joints, and what other tools add to them."""
    at = dict(zip(NTU25, np.moveaxis(body, -2, 0), strict=True))
    left = unit(at['left shoulder'] - at['right shoulder'])
    up = unit(at['spine top'] - at['spine base'])
    ahead = unit(np.cross(left, up))
    at |= {
        'nose': at['head'] + 0.1 * ahead,
        'face': at['head'] + 0.05 * ahead,
        'crown': at['head'] + 0.12 * up,
        'chest': (at['spine middle'] + at['spine top']) / 2,
        'neck base': at['spine top'],
        'c7': at['spine top'] - 0.05 * ahead,
        'clav': at['spine top'] + 0.07 * ahead - 0.04 * up,
        't10': at['spine middle'] - 0.1 * ahead,
        'strn': at['spine middle'] + 0.12 * ahead,
        'rbak': at['spine middle'] - 0.1 * ahead - 0.08 * left + 0.1 * up,
    }
    for side, out in (('left', left), ('right', -left)):
        shoulder, elbow, wrist, hand = (
            at[f'{side} {name}'] for name in ('shoulder', 'elbow', 'wrist', 'hand')
        )
        knee, ankle, toe = (at[f'{side} {name}'] for name in ('knee', 'ankle', 'foot'))
        more = {
            'eye': at['head'] + 0.09 * ahead + 0.03 * out,
            'inner-eye': at['head'] + 0.09 * ahead + 0.02 * out,
            'outer-eye': at['head'] + 0.08 * ahead + 0.05 * out,
            'mouth': at['head'] + 0.09 * ahead + 0.03 * out - 0.06 * up,
            'ear': at['head'] + 0.07 * out,
            'pinky': hand - 0.03 * ahead,
            'index': hand + 0.03 * ahead,
            'clavicle': at['spine top'] + 0.03 * out,
            'toe': toe + 0.03 * ahead,
            'small-toe': toe + 0.05 * out,
            'heel': ankle - 0.06 * ahead - 0.05 * up,
            'fhd': at['head'] + 0.07 * out + 0.08 * ahead,
            'bhd': at['head'] + 0.07 * out - 0.08 * ahead,
            'sho': shoulder + 0.05 * up,
            'upa': (shoulder + elbow) / 2 + 0.05 * out,
            'elb': elbow + 0.04 * out,
            'frm': (elbow + wrist) / 2 + 0.04 * out,
            'wra': wrist + 0.03 * ahead,
            'wrb': wrist - 0.03 * ahead,
            'fin': hand + 0.01 * ahead,
            'asi': at['spine base'] + 0.13 * out + 0.1 * ahead + 0.05 * up,
            'psi': at['spine base'] + 0.05 * out - 0.1 * ahead + 0.05 * up,
            'thi': (at[f'{side} hip'] + knee) / 2 + 0.07 * out,
            'kne': knee + 0.05 * out,
            'tib': (knee + ankle) / 2 + 0.05 * out,
            'ank': ankle + 0.04 * out,
            'hee': ankle - 0.06 * ahead - 0.05 * up,
        }
        at |= {f'{side} {name}': place for name, place in more.items()}
    return at


def wear(body, names):
    """The joints `names` of a body (…, 25, 3) as (…, J, 3); the origin for one that it lacks."""
    at = dress(body)
    return np.stack([at.get(name, np.zeros_like(at['head'])) for name in names], -2)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


PIXELS, PLACE = 220, (640, 520)  # of a metre, and where the origin is in the picture
# {marker: joint} as Pose2Sim names them, in its order
POSE2SIM = {
    'Hip': 'spine base',
    'RHip': 'right hip',
    'RKnee': 'right knee',
    'RAnkle': 'right ankle',
    'RBigToe': 'right toe',
    'RSmallToe': 'right small-toe',
    'RHeel': 'right heel',
    'LHip': 'left hip',
    'LKnee': 'left knee',
    'LAnkle': 'left ankle',
    'LBigToe': 'left toe',
    'LSmallToe': 'left small-toe',
    'LHeel': 'left heel',
    'Neck': 'spine top',
    'Head': 'crown',
    'Nose': 'nose',
    'RShoulder': 'right shoulder',
    'RElbow': 'right elbow',
    'RWrist': 'right wrist',
    'LShoulder': 'left shoulder',
    'LElbow': 'left elbow',
    'LWrist': 'left wrist',
}
# … and the 39 markers of Plug-in Gait
SIDED = 'FHD BHD SHO UPA ELB FRM WRA WRB FIN ASI PSI THI KNE TIB ANK HEE TOE'
GAIT = {
    f'{side[0].upper()}{marker}': f'{side} {marker.lower()}'
    for marker in SIDED.split()
    for side in ('left', 'right')
} | {name: name.lower() for name in ('C7', 'T10', 'CLAV', 'STRN', 'RBAK')}
