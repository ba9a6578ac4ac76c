"""What is mended in own recordings: lost joints, padding, slots, turns, rates. The actors are the
demo's; whatever is whole stays as it is.
"""

import numpy as np
import pytest
from known_body import actors, wear

from data_gen import custom_gendata, ntu_gendata
from data_gen.joint_maps import NTU25, SKELETONS, to_ntu
from data_gen.poses import check_poses
from data_gen.preprocess import normalize
from data_gen.skeleton import SkeletonError, read_xyz, two_liveliest
from data_gen.tracks import Poses, fill, to_clip

NAN = np.nan
FILLED = 'joints were missing and filled'
JOINED = 'tracks went on in another slot and were joined'


def people(frames=40, people=1, seed=0):
    return actors(frames, people, seed) + (0, 0, 3)


def read(array, joints='ntu25', axes='kinect', **more):
    """(clip (T, 2, 25, 3), notes) of an array."""
    xyz, notes = to_clip(Poses(check_poses(array, joints), joints, axes, **more))
    return xyz.transpose(1, 3, 2, 0), notes


def normalised(clip):
    """A clip (T, 2, 25, 3) as the encoder sees it."""
    return normalize(clip.transpose(3, 0, 2, 1), len(clip)).transpose(1, 3, 2, 0)


@pytest.mark.parametrize('number', [1, 2])
@pytest.mark.parametrize('joints', ['ntu25', 'coco17', 'azure32'])
def test_whole_recordings_stay_as_they_are(joints, number):
    array = wear(people(people=number), SKELETONS[joints].names)
    clip, notes = read(array, joints)
    expected = two_liveliest(to_ntu(array, joints, 'kinect').swapaxes(0, 1)).transpose(1, 3, 2, 0)
    assert clip.tobytes() == expected.tobytes()
    assert {count for count, _ in notes.values()} == {0}
    assert notes[FILLED][1] == 40 * number * {'ntu25': 25, 'coco17': 14, 'azure32': 26}[joints]


@pytest.mark.parametrize('lost', [0, -1, NAN])
@pytest.mark.parametrize('dimensions', [2, 3])
def test_lost_joints_are_filled(lost, dimensions):
    """On a line over ten frames, from the nearest frame over more, and at the ends."""
    array = people()[..., :dimensions]
    holes = array.copy()
    for begin, end, joint in ((0, 4, 3), (10, 20, 6), (20, 31, 14), (37, 40, 24)):
        holes[begin:end, 0, joint] = lost
    clip, notes = read(holes)
    assert notes[FILLED] == (4 + 10 + 11 + 3, 1000)
    found, array = clip[:, 0, :, :dimensions], array[:, 0]
    assert (found[:4, 3] == array[4, 3]).all()
    assert (found[37:, 24] == array[36, 24]).all()
    share = np.arange(1, 11)[:, None] / 11
    line = array[9, 6] * (1 - share) + array[20, 6] * share
    np.testing.assert_allclose(found[10:20, 6], line, rtol=0, atol=1e-12)
    assert (found[20:26, 14] == array[19, 14]).all()
    assert (found[26:31, 14] == array[31, 14]).all()
    whole = [joint for joint in range(25) if joint not in (3, 6, 14, 24)]
    assert (found[:, whole] == array[:, whole]).all()


def test_a_body_that_is_away_is_not_filled():
    array = people(people=2)
    array[10:15, 1] = 0
    array[12, 0, 7] = 0
    assert np.isnan(fill(check_poses(array, 'ntu25'))[10:15, 1]).all()
    clip, notes = read(array)
    assert notes[FILLED] == (1, 75 * 25)
    assert sorted(clip.any((2, 3)).sum(0)) == [35, 40]


@pytest.mark.parametrize(
    ('joints', 'lost', 'made', 'within'),
    [
        ('ntu25', 'neck', 'neck', 0.03),
        ('ntu25', 'left thumb', 'left thumb', 0.1),
        ('ntu25', 'spine base', 'spine base', 0.06),
        ('halpe26', 'left toe', 'left foot', 0.15),
        ('azure32', 'head', 'head', 0.01),
        ('coco17', 'nose', 'head', 0.01),
    ],
)
def test_a_joint_that_is_never_seen_follows_a_rule(joints, lost, made, within):
    array = wear(people(), SKELETONS[joints].names)
    array[:, :, SKELETONS[joints].names.index(lost)] = NAN
    clip, _ = read(array, joints)
    joint = NTU25.index(made)
    assert np.linalg.norm(clip[:, 0, joint] - people()[:, 0, joint], axis=-1).max() < within


@pytest.mark.parametrize(('joints', 'lost'), [('ntu25', 'left knee'), ('coco17', 'right wrist')])
def test_a_joint_that_no_rule_gives_is_named(joints, lost):
    array = wear(people(), SKELETONS[joints].names)
    array[:, :, SKELETONS[joints].names.index(lost)] = 0
    with pytest.raises(SkeletonError, match=f'the {lost} is never seen'):
        read(array, joints)


@pytest.mark.parametrize('origin', ['spine base', 'spine middle', 'spine top'])
@pytest.mark.parametrize('first', [False, True])
def test_the_origin_of_root_centred_recordings_is_seen(origin, first):
    """Normalisation must not take it for missing either."""
    array = people()
    root = array[:, :, [NTU25.index(origin)]]
    centred = array - (root[:1] if first else root)
    clip, notes = read(centred)
    assert notes[FILLED][0] == 0
    moved = normalised(read(centred + (0.01, 0.02, 0.04))[0])
    np.testing.assert_allclose(normalised(clip), moved, rtol=0, atol=1e-6)


def test_a_spine_that_is_lost_is_no_origin():
    array = people()
    array[:, 0, 0] = 0  # three metres from the body
    clip, notes = read(array)
    assert notes[FILLED] == (40, 1000)
    assert np.linalg.norm(clip[:, 0, 0] - people()[:, 0, 0], axis=-1).max() < 0.06
    array = people() - (0, 0, 3)
    array[5, 0, 0] = 0
    assert read(array)[1][FILLED] == (1, 1000)


@pytest.mark.parametrize('padding', [0, NAN])
def test_padding_does_not_count(padding):
    array = people(people=2)
    before, after = np.full((5, 2, 25, 3), padding), np.full((260, 2, 25, 3), padding)
    clip, notes = read(np.concatenate((before, array, after)))
    assert clip.tobytes() == read(array)[0].tobytes()
    assert notes['frames before the first and after the last body were left out'] == (265, 305)


@pytest.mark.parametrize('gap', [0, 4])
@pytest.mark.parametrize('begin', [0, 1])
def test_a_person_who_changes_the_slot_stays_one_body(gap, begin):
    array = np.zeros((40, 3, 25, 3))
    array[:15, begin] = people()[:15, 0]
    array[15 + gap : 25, 2] = people()[15 + gap : 25, 0]
    array[25:, 1 - begin] = people()[25:, 0]
    clip, notes = read(array)
    assert notes[JOINED] == (2, 3)
    assert not clip[:, 1].any()
    expected = people()
    expected[15 : 15 + gap] = 0
    assert (clip[:, 0] == expected[:, 0]).all()


def test_a_person_who_is_in_the_other_slot_for_the_first_frame_only():
    array = np.zeros((40, 2, 25, 3))
    array[0, 1], array[1:, 0] = people()[0, 0], people()[1:, 0]
    clip, notes = read(array)
    assert notes[JOINED] == (1, 2)
    assert (clip[:, 0] == people()[:, 0]).all()


def test_a_copy_in_another_slot_is_left_out():
    clip, notes = read(np.concatenate((people(), people()), 1))
    assert notes[JOINED] == (1, 2)
    assert (clip[:, 0] == people()[:, 0]).all()
    assert not clip[:, 1].any()


@pytest.mark.parametrize(('away', 'gap'), [(0.5, 0), (0, 6)])
def test_another_person_stays_another(away, gap):
    array = np.zeros((40, 2, 25, 3))
    array[:15, 0] = people()[:15, 0]
    array[15 + gap :, 1] = people()[15 + gap :, 0] + (away, 0, 0)
    clip, notes = read(array)
    assert notes[JOINED] == (0, 2)
    assert clip.any((0, 2, 3)).all()


@pytest.mark.parametrize('until', [30, 40])
def test_the_second_body_does_not_jump_where_the_first_lacks(until):
    """Also where normalisation repeats the first, because it left early."""
    array = people(people=2)
    sway = np.sin(np.arange(40) * 2 * np.pi / 40)
    array[:, 0] += sway[:, None, None] * (1, 0, 0)  # so it is the livelier one
    array[10:14, 0] = 0
    array[until:, 0] = 0
    clip, _ = read(array)
    assert not clip[12, 0].any()
    assert clip[:, 1].any((1, 2)).all()
    steps = np.linalg.norm(np.diff(normalised(clip)[:, 1, 1], axis=0), axis=-1)
    assert steps.max() < 1.3  # where it is not moved, it jumps by 1.7


def test_turned_people_face_the_sensor():
    """Both bodies alike, so that the first one's shoulders begin along x."""
    array = people(people=2)
    expected = normalised(read(array, turn=True)[0])
    for degrees in (90, 180, 250):
        angle = np.radians(degrees)
        cosine, sine = np.cos(angle), np.sin(angle)
        turned = array @ np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
        clip, _ = read(turned, turn=True)
        x, _, z = clip[0, 0, 8] - clip[0, 0, 4]
        assert x > 0.2
        assert z == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(normalised(clip), expected, rtol=0, atol=1e-5)


def test_other_rates_become_thirty_frames_a_second():
    array = people(41)
    fast, _ = read(array, seconds=np.arange(41) / 60)
    np.testing.assert_allclose(fast[:, 0], array[::2, 0], rtol=0, atol=1e-9)
    slow, _ = read(array, seconds=np.arange(41) / 15)
    assert len(slow) == 81
    np.testing.assert_allclose(slow[::2, 0], array[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(slow[1::2, 0], (array[1:, 0] + array[:-1, 0]) / 2, rtol=0, atol=1e-9)


def test_no_frame_lies_between_a_body_and_nothing():
    array = people(41, 2)
    array[10:20, 1] = 0
    clip, _ = read(array, seconds=np.arange(41) / 25)
    sizes = np.ptp(clip, axis=2).max(-1)
    assert ((sizes == 0) | (sizes > 1)).all()
    assert (sizes == 0).sum() in range(10, 15)


def test_recordings_of_ntu_keep_the_official_rules(tmp_path, write_skeleton):
    """To the byte: with padding, gaps, joints at the origin, and people who change the slot."""
    clips = {1: people(30, 2), 2: people(30), 3: people(30)}
    frames = {number: [list(frame) for frame in clip] for number, clip in clips.items()}
    frames[1][0], frames[1][9], frames[1][-1] = [], [frames[1][9][1]], []
    frames[2][4][0][3] = 0
    frames[3] = [
        [body, body * 0] if t < 15 else [body * 0, body] for t, (body,) in enumerate(frames[3])
    ]
    (tmp_path / 'raw').mkdir()
    lines = ['path,label,split']
    for number, each in frames.items():
        name = f'S001C001P00{number}R001A001.skeleton'
        write_skeleton(tmp_path / 'raw' / name, each)
        lines.append(f'raw/{name},a,train')
    (tmp_path / 'list.csv').write_text('\n'.join(lines))
    flags = ['--out_folder', str(tmp_path / 'custom'), '-j', '1']
    assert custom_gendata.main(['--recordings', str(tmp_path / 'list.csv'), *flags]) == 0
    flags = ['--dataset', 'ntu60', '--benchmark', 'xview', '--out_folder', str(tmp_path / 'ntu')]
    ntu_gendata.main(['--data_path', str(tmp_path / 'raw'), *flags])
    paths = sorted((tmp_path / 'raw').iterdir())
    expected = np.stack([normalize(read_xyz(path)) for path in paths])
    assert np.load(tmp_path / 'custom/split/train_data_joint.npy').tobytes() == expected.tobytes()
    assert np.load(tmp_path / 'ntu/xview/val_data_joint.npy').tobytes() == expected.tobytes()
    assert np.load(tmp_path / 'ntu/xview/val_num_frame.npy').tolist() == [30] * 3
