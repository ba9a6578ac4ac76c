"""Recordings of another meaning than they should have: each is refused or warned of with the next
step, and right ones are silent. The actors are the demo's.
"""

import json

import numpy as np
import pytest
from known_body import actors, wear

from data_gen import custom_gendata, pipeline
from data_gen.joint_maps import AXES, SKELETONS
from data_gen.meaning import find_flaws
from data_gen.poses import check_poses
from data_gen.skeleton import SkeletonError
from data_gen.tracks import Poses

OWN = [name for name in SKELETONS if name not in ('pose2sim', 'plugingait')]  # of arrays
AWAY = (0, 0, 3)
# Where x (to the sensor's left), y (up) and z (away) of a point lie in data of these axes.
IN_AXES = {
    'kinect': lambda x, y, z: (x, y, z),
    'image': lambda x, y, z: (-x, -y, z),
    'zup': lambda x, y, z: (-x, z, y),
    'unity': lambda x, y, z: (-x, y, z),
    'mmpose3d': lambda x, y, z: (x, z, y),
}


def clip(joints='ntu25', axes='kinect', seed=0, people=1):
    """Somebody who acts, as a tool of these joints and axes writes it. (T, M, J, 3)"""
    body = wear(actors(40, people, seed), SKELETONS[joints].names)
    body[body.any(-1)] += AWAY  # the others are never given
    return np.stack(IN_AXES[axes](*np.moveaxis(body, -1, 0)), -1)


def judge(change, joints='ntu25', axes=None, written=None, turn=False):
    """What is said of six clips that were `written` in a skeleton and axes, changed, and read in
    others: the reasons why they are refused, and the warnings.
    """
    axes = axes or SKELETONS[joints].axes
    accepted, refused = [], set()
    for seed in range(6):
        array = change(clip(*(written or (joints, axes)), seed=seed))
        try:
            accepted.append(Poses(check_poses(array, joints), joints, axes, turn=turn))
        except SkeletonError as error:
            refused.add(str(error))
    return sorted(refused), find_flaws(accepted)


def same(array):
    return array


def flat(array):
    """Two dimensions, beside the origin."""
    return np.where(array == 0, 0, array + 4)[..., :2]


def turned(array, degrees=180):
    """Turned about y, in `kinect` axes."""
    angle = np.radians(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    return array @ np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])


@pytest.mark.parametrize('change', [same, flat])
@pytest.mark.parametrize('joints', OWN)
def test_right_recordings_are_silent(joints, change):
    assert judge(change, joints, SKELETONS[joints].axes or 'kinect') == ([], [])


@pytest.mark.parametrize('axes', AXES)
@pytest.mark.parametrize('joints', ['ntu25', 'coco17', 'h36m17'])
def test_right_axes_are_silent(joints, axes):
    assert judge(same, joints, axes) == ([], [])


MIRROR = 'left and right are exchanged'
ORDER = 'another order'


def scored(array):
    """x and y in metres, and a score that was left where z belongs."""
    scores = np.random.default_rng(0).uniform(0.4, 1, (*array.shape[:-1], 1))
    return np.concatenate((array[..., :2], scores), -1)


def frozen(array):
    array = array.copy()
    array[5:, :, [6, 14]] = array[5, :, [6, 14]][:, None].swapaxes(0, 2)
    return array


WARNED = {
    'image axes forgotten, ntu25': ((same, 'ntu25', 'kinect', ('ntu25', 'image')), '--axes image'),
    'image axes forgotten, kinect20': (
        (same, 'kinect20', 'kinect', ('kinect20', 'image')),
        '--axes image',
    ),
    'kinect axes forgotten': ((same, 'coco17', 'image', ('coco17', 'kinect')), '--axes kinect'),
    'z up, ntu25': ((same, 'ntu25', 'kinect', ('ntu25', 'zup')), '--axes zup'),
    'z up, mediapipe33': ((same, 'mediapipe33', 'image', ('mediapipe33', 'zup')), '--axes zup'),
    'mmpose as image': ((same, 'h36m17', 'image', ('h36m17', 'mmpose3d')), '--axes mmpose3d'),
    'mmpose as z up': ((same, 'h36m17', 'zup', ('h36m17', 'mmpose3d')), '--axes mmpose3d'),
    'y flipped': ((lambda array: array * (1, -1, 1), 'ntu25'), 'no --axes puts that right'),
    'y of a picture flipped': ((lambda array: array * (1, -1, 1), 'coco17'), '--axes unity'),
    'y of a picture flipped, 2-D': (
        (lambda array: flat(array * (1, -1, 1)), 'coco17'),
        '--axes unity',
    ),
    'left-handed, ntu25': ((same, 'ntu25', 'kinect', ('ntu25', 'unity')), '--axes unity'),
    'sides exchanged by name': ((same, 'msr20', 'kinect', ('msr20', 'unity')), MIRROR),
    'mirrored, by the nose': ((lambda array: array * (-1, 1, 1), 'coco17'), MIRROR),
    'mirrored, by the face': ((lambda array: array * (-1, 1, 1), 'h36m17'), MIRROR),
    'away from the sensor': ((turned,), '--turn'),
    'away, aslant': ((lambda array: turned(array, 160),), '--turn'),
    'away, z up, without a turn': (
        (lambda array: array * (-1, -1, 1), 'ntu25', 'zup'),
        '--turn',
    ),
    'away, 2-D': ((lambda array: flat(array * (-1, 1, 1)), 'coco17'), '--turn'),
    'Human3.6M as COCO': ((same, 'coco17', 'image', ('h36m17', 'image')), '--joints h36m17 (Human'),
    'Human3.6M as COCO, 2-D': ((flat, 'coco17', 'image', ('h36m17', 'image')), '--joints h36m17'),
    'COCO as Human3.6M': ((same, 'h36m17', 'image', ('coco17', 'image')), '--joints coco17 (COCO)'),
    'rtmlib as BODY_25': ((same, 'body25', 'image', ('coco25', 'image')), '--joints coco25'),
    '25 of Halpe as BODY_25': (
        (lambda array: array[:, :, :25], 'body25', 'image', ('halpe26', 'image')),
        ORDER,
    ),
    'BODY_25 as NTU': ((same, 'ntu25', 'image', ('body25', 'image')), '--joints body25'),
    'Nuitrack as NTU': ((same, 'ntu25', 'kinect', ('nuitrack', 'kinect')), '--joints nuitrack'),
    'MSR as Kinect': ((same, 'kinect20', 'kinect', ('msr20', 'kinect')), '--joints msr20'),
    'Kinect as MSR': ((same, 'msr20', 'kinect', ('kinect20', 'kinect')), '--joints kinect20'),
    'BODY_25 as rtmlib': (
        (same, 'coco25', 'image', ('body25', 'image')),
        "--joints body25 (OpenPose's BODY_25)",
    ),
    'any order': ((lambda array: array[:, :, np.random.default_rng(1).permutation(25)],), ORDER),
    'a score for z': ((scored, 'coco17'), '--drop-score drops it; if it is z, add 2'),
    'joints that froze': ((frozen,), 'a joint (left wrist …) stays where it is for 30 frames'),
}


@pytest.mark.parametrize('kind', WARNED)
def test_wrong_recordings_get_one_warning(kind):
    how, says = WARNED[kind]
    refused, flaws = judge(*how)
    assert refused == []
    assert len(flaws) == 1
    assert says in flaws[0]


def test_what_is_said_is_mended_by_it():
    assert judge(turned, turn=True) == ([], [])
    assert judge(same, 'ntu25', 'zup', ('ntu25', 'zup')) == ([], [])
    assert judge(lambda array: turned(array, 70)) == ([], [])  # seen from the side is no flaw
    assert judge(lambda array: array[:1] * (1, -1, 1)) == ([], [])  # one frame says too little


def picture(array):
    """The picture landmarks of MediaPipe: fractions of its width and height, and z from the hips."""
    return (array - AWAY) / 4 + (0.5, 0.5, -0.2)


def by_axis(array, people=2):
    """(T, 3, joints, people)"""
    return np.concatenate([array + (number, 0, 0) for number in range(people)], 1).swapaxes(1, 3)


REFUSED = {
    'decimetres': (lambda array: array * 10, 'Multiply decimetres by 0.1;'),
    'feet': (lambda array: array / 0.3048, 'Multiply feet by 0.3048;'),
    'inches': (lambda array: array / 0.0254, 'Multiply inches by 0.0254;'),
    'divided twice': (lambda array: array / 1000, 'divided twice'),
    'picture landmarks': (picture, 'use world landmarks'),
    'fractions in 2-D': (lambda array: picture(array)[..., :2], 'x times its width'),
    'fractions and a score': (lambda array: scored(picture(array)), '--drop-score'),
    'pixels and a score': (lambda array: scored(array * 300), '--drop-score'),
    'by axis': (by_axis, 'array.transpose(0, 3, 2, 1)'),
    'by axis, of three': (lambda array: by_axis(array, 3), 'array.transpose(0, 3, 2, 1)'),
    'by axis, one seen': (
        lambda array: by_axis(np.where(np.arange(2)[:, None, None], np.nan, array), 1),
        'array.transpose(0, 3, 2, 1)',
    ),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_wrong_recordings_are_refused(kind):
    change, says = REFUSED[kind]
    refused, flaws = judge(change)
    assert flaws == []
    assert refused
    assert all(says in reason for reason in refused)


def test_two_people_who_stand_apart_are_not_taken_for_axes():
    for people in (2, 3):
        array = np.concatenate([clip(seed=seed) + (seed, 0, 0) for seed in range(people)], 1)
        for right in (array, array[..., :2] + 4):
            np.testing.assert_array_equal(check_poses(right, 'ntu25')[..., :2], right[..., :2])


@pytest.fixture
def prepare(tmp_path, capsys):
    """prepare(change, *flags): prepare six changed clips; (exit code, stdout, warnings)."""

    def run(change, *flags):
        rows = ['path,label,split']
        for seed in range(6):
            np.save(tmp_path / f'{seed}.npy', change(clip(seed=seed)))
            rows.append(f'{seed}.npy,wave,{"val" if seed > 3 else "train"}')
        (tmp_path / 'list.csv').write_text('\n'.join(rows))
        command = ['--recordings', tmp_path / 'list.csv', '--out_folder', tmp_path / 'out', '-j', 1]
        code = custom_gendata.main([*map(str, command), *flags])
        shown = capsys.readouterr()
        return code, shown.out, [line for line in shown.err.splitlines() if 'warning' in line]

    return run


def test_a_warning_does_not_stop_the_work(prepare):
    code, _, warned = prepare(lambda array: array * (-1, -1, 1))
    assert code == 0
    assert warned == ['warning: people do not stand upright: --axes image puts that right']
    assert prepare(same, '--overwrite')[::2] == (0, [])


def test_a_refusal_is_listed(prepare):
    code, out, warned = prepare(lambda array: array * 10)
    assert (code, warned) == (1, [])
    assert '  6 recordings, such as ' in out
    assert out.count('Multiply decimetres by 0.1') == 1


def with_holes(array):
    array = np.concatenate((np.zeros((7, 1, 25, 3)), array, np.zeros((3, 1, 25, 3))))
    array[20:25, 0, 6] = -1
    return array


def test_what_was_mended_is_counted_once(prepare, tmp_path, monkeypatch):
    """In a resumed run, too, which finds the counts in the journal."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, 'finish', stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(with_holes)
    code, out, warned = prepare(with_holes)
    assert (code, warned) == (0, [])
    assert '  30 of 6,000 joints were missing and filled\n' in out
    assert '  60 of 300 frames before the first and after the last body were left out\n' in out
    assert 'slot' not in out
    manifest = json.loads((tmp_path / 'out/split/manifest.json').read_text())
    assert manifest['notes']['joints were missing and filled'] == [30, 6000]
    assert manifest['parts']['train']['frames']['max'] == 40


def test_arrays_of_before_the_checks_are_prepared_again(prepare, tmp_path):
    assert prepare(same)[0] == 0
    manifest = json.loads((tmp_path / 'out/split/manifest.json').read_text())
    assert manifest['checks'] == 2
    assert 'finished already' in prepare(same)[1]
