"""Judges whether the numbers of own recordings mean what they should: the order of the joints, the
axes, left and right, z. What right recordings have was measured on the 2,577 of IntelliRehabDS
(Miron et al., Data 2021, 6(5), 46) and on other skeletons made from them.
"""

import numpy as np

from data_gen.joint_maps import AXES, SKELETONS, matrix, order, turn_axes
from data_gen.skeleton import PARENTS
from data_gen.tracks import Poses, fill, seen_bodies

CLIPS = 20  # that are judged, before the work begins
# The spine against the vertical, as a cosine: 0.87 to 1.00 there, 0.06 to 1.00 in NTU RGB+D.
UPRIGHT = 0.3
# Metres that the toes of a mirror image lie behind the ankles, or its nose behind the ears. Feet
# look forward by 0.03 to 0.13 there.
BEHIND = 0.03
# The shoulders against NTU RGB+D's x, as a cosine: 0.88 to 1.00 there, 0 for people seen from the
# side.
AWAY = -0.5
# Of the bones, at most, with z and without. Left arms and legs differ from right ones by 0.05 of
# their length (without z: 0.10) in the median of the clips, and by at most 0.11 (0.30) in that of 20
# clips of a person. Short bones are 0.12 to 0.41 of the long ones; 2.3 if OpenPose's joints are read
# as NTU RGB+D's. The length of an arm or leg varies by at most 0.12, as std by mean.
MOST_WOBBLE = 0.2
LIMITS, FLAT_LIMITS = (0.25, 0.6, MOST_WOBBLE), (0.33, 0.6, np.inf)
# Of the asymmetry in another order of as many joints: at least 1.28 if the order is right, and at
# most 0.78 if the other is.
BETTER = 0.8
STILL = 30  # steps that a joint does not move at all while others do; at most 21 there

SHORT_BONES = [2, 7, 11, 15, 19, 21, 22, 23, 24]  # by their outer joints: neck, hands, feet
LEFT_LIMBS, RIGHT_LIMBS = [5, 6, 13, 14], [9, 10, 17, 18]  # upper arm, forearm, thigh, shin
# What is in front of what.
FRONTS = (
    ('left right: toe', 'left right: ankle'),
    ('left right: foot', 'left right: ankle'),
    ('nose', 'left right: ear'),
    ('face', 'spine top, crown'),
)


def find_flaws(clips: list[Poses]) -> list[str]:
    """What is probably wrong with recordings of one skeleton: a line each, with the remedy.

    Clips of one frame say too little, and pass.
    """
    clips = [clip for clip in clips if len(clip.bodies) > 1]
    if not clips:
        return []
    filled = [clip._replace(bodies=fill(clip.bodies)) for clip in clips]
    flaw = flaw_of_scores(clips) or flaw_of_order(filled) or flaw_of_axes(filled)
    return [each for each in (flaw, flaw_of_still_joints(clips)) if each]


def flaw_of_scores(clips: list[Poses]) -> str | None:
    # What has z for sure. Where z points up, the third number is a height.
    if clips[0].joints in ('azure32', 'pose2sim', 'plugingait') or AXES[clips[0].axes][2] != 3:
        return None
    third = np.concatenate([np.nan_to_num(clip.bodies[..., 2]).ravel() for clip in clips])
    if third.min() < 0 or not 0 < third.max() <= 1:
        return None
    return (
        'the third number is always in 0 to 1: if it is a score, --drop-score drops it; if it is z, '
        'add 2 to it (the place does not matter)'
    )


def flaw_of_order(clips: list[Poses]) -> str | None:
    joints = clips[0].joints
    count = len(SKELETONS[joints].names)
    measured = {}
    for name, skeleton in SKELETONS.items():
        if len(skeleton.names) == count:
            measured[name] = np.median([measure_bones(clip.bodies, name) for clip in clips], 0)
    has_depth = any(np.nan_to_num(clip.bodies[..., 2]).any() for clip in clips)
    limits = LIMITS if has_depth else FLAT_LIMITS
    best = min(measured, key=lambda name: measured[name][0])
    fits = measured[best][0] < BETTER * measured[joints][0]
    if not fits and (measured[joints] <= limits).all():
        return None
    likely = 'see data_gen/joint_maps.py'
    if fits and measured[best][0] <= limits[0]:
        likely = f'--joints {best} ({SKELETONS[best].origin}) fits better'
    return (
        f"the bones of these {count} joints are not as long as people's: are they in another order,"
        f' or is z no depth? {likely}'
    )


def measure_bones(poses: np.ndarray, joints: str) -> tuple[float, float, float]:
    """How much left and right arms and legs differ, how long short bones are beside long ones, and
    how much the length of long ones varies, in poses (T, M, J, 3 or 2); see LIMITS.
    """
    bodies = ntu_bodies(poses, joints)
    lengths = np.linalg.norm(bodies - bodies[:, PARENTS], axis=-1)
    median = np.median(lengths, 0)
    left, right = median[LEFT_LIMBS], median[RIGHT_LIMBS]
    both = (left + right).clip(1e-9)
    asymmetry = 2 * np.mean(np.abs(left - right) / both)
    short_to_long = 2 * median[SHORT_BONES].mean() / both.mean()
    limbs = lengths[:, LEFT_LIMBS + RIGHT_LIMBS]
    wobble = limbs.std(0) / limbs.mean(0).clip(1e-9)
    return asymmetry, short_to_long, np.median(wobble)


def ntu_bodies(poses: np.ndarray, joints: str) -> np.ndarray:
    """All bodies seen in poses (T, M, J, 3), with the joints of NTU RGB+D (K, 25, 3), in the axes of
    the data.
    """
    return matrix(SKELETONS[joints]) @ np.nan_to_num(seen_bodies(poses))


def flaw_of_axes(clips: list[Poses]) -> str | None:
    axes, turn = clips[0].axes, clips[0].turn
    medians = np.median([directions(clip) for clip in clips], 0)
    passed = count_passed(medians, axes, turn)
    best = max(AXES, key=lambda name: count_passed(medians, name, turn))
    remedy = 'no --axes puts that right; turn one axis of the data round'
    if count_passed(medians, best, turn) >= 2:
        remedy = f'--axes {best} puts that right'
    return (
        f'people do not stand upright: {remedy}',
        f'left and right are exchanged, or the axes are left-handed: {remedy}',
        'people face away from the sensor: --turn turns them round (without z, feet and face, '
        'exchanged left and right look the same)',
        None,
    )[passed]


def count_passed(medians: np.ndarray, axes: str, turn: bool) -> int:
    """How many checks of axes pass, of three in a row: upright, not mirrored, facing the sensor.

    medians (7,): of the `directions` of clips.
    """
    up, right, forward = medians[:3], medians[3:6], medians[6]
    if turn_axes(up, axes)[1] < UPRIGHT:
        return 0
    if forward * np.linalg.det(turn_axes(np.eye(3), axes)) < -BEHIND:
        return 1
    if not turn and turn_axes(right, axes)[0] <= AWAY:
        return 2
    return 3


def directions(clip: Poses) -> np.ndarray:
    """Medians (7,) over a clip, in its own axes: the direction of the spine (3), of the shoulders
    from left to right (3), and how many metres feet or face look forward (1): negative in a mirror
    image, 0 if it cannot be seen.
    """
    bodies = ntu_bodies(clip.bodies, clip.joints)
    up = unit(bodies[:, 3] - bodies[:, 0])
    right = unit(bodies[:, 8] - bodies[:, 4])
    ahead = unit(np.cross(up, right))
    forward = (look(clip) * ahead).sum(1)
    return np.median(np.column_stack([up, right, forward]), 0)


def look(clip: Poses) -> np.ndarray:
    """The way (K, 3) from ankles to toes, or of the first of FRONTS that the joints have; else 0."""
    bodies = np.nan_to_num(seen_bodies(clip.bodies))
    names = SKELETONS[clip.joints].names
    for pair in FRONTS:
        front, back = (np.isin(names, order(end)) for end in pair)
        if front.any() and back.any():
            return bodies[:, front].mean(1) - bodies[:, back].mean(1)
    return np.zeros_like(bodies[:, 0])


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)


def flaw_of_still_joints(clips: list[Poses]) -> str | None:
    for clip in clips:
        before, after = clip.bodies[:-1], clip.bodies[1:]
        stays = (after == before).all(3) & after.any(3)
        stays &= stays.mean(2, keepdims=True) < 0.5  # others move
        if len(stays) < STILL:
            continue
        runs = np.lib.stride_tricks.sliding_window_view(stays, STILL, 0).all(-1)
        for joint in np.flatnonzero(runs.any((0, 1))):
            return (
                f'a joint ({SKELETONS[clip.joints].names[joint]} …) stays where it is for {STILL} '
                'frames in a row while the body moves: write 0 or NaN for one that is lost'
            )
    return None
