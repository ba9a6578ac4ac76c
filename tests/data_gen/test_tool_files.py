"""Files of other tools: what the real libraries wrote of a known body is read back, and what is
refused.

recordings/write.py made the files in recordings/; variants of them are made here.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from known_body import GAIT, PIXELS, PLACE, POSE2SIM, actors, dress, wear

from data_gen.joint_maps import SKELETONS, to_ntu
from data_gen.poses import check_poses
from data_gen.skeleton import SkeletonError
from data_gen.tool_files import AZURE, READERS

RECORDINGS = Path(__file__).parent / 'recordings'
MILLIMETRE = 0.001


def read(path, joints='ntu25', axes=None):
    path = Path(path)
    return READERS[path.suffix](str(path), joints, axes)


def error(found, truth):
    """Metres that poses are off where both are seen; they must be seen where the truth is."""
    assert (np.isfinite(found) >= np.isfinite(truth)).all()
    return np.nanmax(np.abs(found - truth))


# A folder of JSON


def write_openpose(folder, people, first=0, name='clip_{:012d}_keypoints.json'):
    """A JSON for each frame of people (T, M, J, 2): NaN makes 0, 0, 0, and nobody of a whole body."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, bodies in enumerate(people, first):
        scored = np.dstack([np.nan_to_num(bodies), np.isfinite(bodies[..., 0])])
        found = [{'pose_keypoints_2d': body.ravel().tolist()} for body in scored if body.any()]
        (folder / name.format(frame)).write_text(json.dumps({'version': 1.3, 'people': found}))
    return folder


def in_pixels(joints, frames=12, people=1):
    body = actors(frames, people)
    return wear(body, SKELETONS[joints].names)[..., :2] * (-PIXELS, -PIXELS) + PLACE


def in_metres(pixels, body=0):
    """Pixels (T, M, J, 2), by the size of one body, as poses in three dimensions."""
    seen = pixels[np.isfinite(pixels[:, body]).any((1, 2)), body]
    size = np.median((np.nanmax(seen, 1) - np.nanmin(seen, 1)).max(-1))
    return np.concatenate([pixels, 0 * pixels[..., :1]], -1) * 1.5 / size


def test_arrays_in_pixels_are_scaled_as_a_folder_of_json(tmp_path):
    pixels = in_pixels('coco17', people=2)
    pixels[:5, 0] = np.nan  # the second body is seen most often
    folder = read(write_openpose(tmp_path / 'json', pixels))
    scored = np.concatenate([pixels, 0 * pixels[..., :1] + 0.9], -1)
    for array in (pixels, scored):
        found = check_poses(array, 'coco17', pixels=True)
        both = np.sort(found, 1), np.sort(folder.bodies, 1)  # bodies are in another order there
        np.testing.assert_allclose(*both, atol=1e-9)
    with pytest.raises(SkeletonError, match='these are pixels, not metres: --pixels scales them'):
        check_poses(pixels, 'coco17')


def test_pose2sim_json():
    found = read(RECORDINGS / 'pose2sim_json')
    assert (found.joints, found.axes, found.seconds) == ('halpe26', 'image', None)
    pixels = in_pixels('halpe26', 4, 2)
    pixels[1, :, 3] = pixels[2] = np.nan
    truth = in_metres(pixels)
    assert error(found.bodies, truth) < MILLIMETRE
    assert (np.isnan(found.bodies).any(-1) == np.isnan(truth).any(-1)).all()


@pytest.mark.parametrize(
    ('joints', 'given'),
    [
        ('coco17', 'ntu25'),
        ('openpose18', 'ntu25'),
        ('body25', 'ntu25'),
        ('halpe26', 'coco17'),
        ('coco133', 'ntu25'),
        ('coco25', 'coco25'),
        ('h36m17', 'h36m17'),
    ],
)
def test_the_number_of_keypoints_says_the_skeleton(joints, given, tmp_path):
    pixels = in_pixels(joints, 3)
    pixels[pixels == PLACE] = np.nan  # of the joints that the known body lacks
    found = read(write_openpose(tmp_path, pixels), given)
    assert found.joints == joints
    assert np.nanmax(np.abs(found.bodies[..., 2])) == 0
    np.testing.assert_allclose(np.ptp(np.nan_to_num(found.bodies[:, 0], nan=2), 1), 0, atol=9)


@pytest.mark.parametrize('apart', [-60, 400])  # within half a body of each other, or not
def test_people_are_followed(apart, tmp_path):
    left, right = in_pixels('body25', 40, 2).swapaxes(0, 1)
    frames = np.stack([left, right + (apart, 0)], 1)
    frames[3:9, 0] = frames[20:26] = np.nan  # the first leaves, then both for less than a second
    shuffled = frames.copy()
    shuffled[::3] = shuffled[::3, ::-1]
    found = read(write_openpose(tmp_path, shuffled)).bodies
    assert error(found[:, 1], in_metres(frames, 1)[:, 0]) < MILLIMETRE
    assert error(found[:, 0], in_metres(frames, 1)[:, 1]) < MILLIMETRE


@pytest.mark.parametrize(('away', 'bodies'), [(29, 1), (30, 2)])
def test_a_person_is_remembered_for_thirty_frames(away, bodies, tmp_path):
    frames = in_pixels('body25', 40)
    frames[:] = frames[0]
    frames[2 : 2 + away] = np.nan
    assert read(write_openpose(tmp_path, frames)).bodies.shape[1] == bodies


def test_a_jump_of_more_than_half_a_body_is_another_person(tmp_path):
    frames = in_pixels('body25', 6)
    frames[3:, ..., 0] += 0.6 * np.ptp(frames[0, 0], 0).max()
    assert read(write_openpose(tmp_path, frames)).bodies.shape[1] == 2


def test_frames_are_ordered_by_the_last_number(tmp_path):
    frames = in_pixels('body25', 12)
    found = read(write_openpose(tmp_path, frames, 95, 'cam2_{}.json'))  # not padded: 100 after 99
    assert error(found.bodies, in_metres(frames)) < MILLIMETRE


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ({'a_1.json': [], 'b_1.json': []}, 'folder of its own'),
        ({'a_1.json': [75], 'a_2.json': [54]}, 'joints, not one of'),
        ({'a_1.json': [63]}, 'people have .21. joints'),
        ({'a_1.json': [], 'a_2.json': []}, 'no joints'),
        ({'a_1.json': [75], 'info.json': []}, 'info.json has no number'),
        ({'a_1.json': [75], 'a_2.json': [74]}, 'a_2.json is no frame of OpenPose'),
    ],
)
def test_a_folder_that_cannot_be_one_recording(content, says, tmp_path):
    for name, counts in content.items():
        people = [{'pose_keypoints_2d': [1.0] * count} for count in counts]
        (tmp_path / name).write_text(json.dumps({'people': people}))
    with pytest.raises(SkeletonError, match=says):
        read(tmp_path)


# Azure Kinect


def azure_content(bodies, times, names=AZURE):
    """What offline_processor writes of bodies (T, M, 32, 3) in metres, at microseconds."""
    frames = []
    for number, (time, people) in enumerate(zip(times, bodies, strict=True)):
        found = [
            {'body_id': 3 - int(body), 'joint_positions': (people[body] * 1000).tolist()}
            for body in np.flatnonzero(np.isfinite(people).any((1, 2)))[::-1]
        ]
        frames.append(
            {'bodies': found, 'frame_id': 2 * number, 'num_bodies': 2, 'timestamp_usec': int(time)}
        )
    return {'bone_list': [], 'frames': frames, 'joint_names': names.split(), 'source_file': 'a.mkv'}


def test_azure(tmp_path):
    bodies = wear(actors(10, 2), SKELETONS['azure32'].names) * (-1, -1, 1)
    bodies[4:6, 0] = np.nan
    times = 100_000 + np.arange(10) * 33_333
    kept = [0, 1, 2, 3, 4, 5, 8, 9]  # frames are dropped when the tracker is slow
    (tmp_path / 'a.json').write_text(json.dumps(azure_content(bodies[kept], times[kept])))
    found = read(tmp_path / 'a.json')
    assert (found.joints, found.axes) == ('azure32', 'image')
    assert error(found.bodies, bodies[kept][:, ::-1]) < MILLIMETRE
    assert np.isnan(found.bodies[4:6, 1]).all()
    np.testing.assert_allclose(found.seconds - found.seconds[0], np.array(kept) / 30, atol=1e-4)


def test_azure_joints_go_by_their_names(tmp_path):
    bodies = wear(actors(3), SKELETONS['azure32'].names)
    order = np.random.default_rng(0).permutation(32)
    names = ' '.join(AZURE.split()[place] for place in order).replace('NAVEL', 'NAVAL')
    content = azure_content(bodies[:, :, order], np.arange(3) * 33_333, names)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    assert error(read(tmp_path / 'a.json').bodies, bodies) < MILLIMETRE


def test_another_json_is_refused(tmp_path):
    (tmp_path / 'a.json').write_text('{"people": []}')
    with pytest.raises(SkeletonError, match='list the folder'):
        read(tmp_path / 'a.json')


# Markers


def pose2sim_truth(frames):
    """The NTU RGB+D joints that Pose2Sim's markers of the known body stand for."""
    at = dress(actors(frames)[:, 0])
    truth = actors(frames)[:, 0].copy()
    truth[:, 1] = 0.4 * at['spine base'] + 0.6 * at['spine top']
    truth[:, 3] = at['spine top'] / 3 + at['crown'] * 2 / 3
    truth[:, 2] = at['spine top'] * 2 / 3 + truth[:, 3] / 3
    for side, hand, tip, thumb, foot in (('left', 7, 21, 22, 15), ('right', 11, 23, 24, 19)):
        wrist, elbow = at[f'{side} wrist'], at[f'{side} elbow']
        truth[:, hand] = truth[:, thumb] = 1.3 * wrist - 0.3 * elbow
        truth[:, tip] = 1.6 * wrist - 0.6 * elbow
        truth[:, foot] = (at[f'{side} ankle'] + at[f'{side} toe']) / 2
    return truth


def mapped(found):
    return to_ntu(found.bodies, found.joints, found.axes)


def test_pose2sim_trc():
    found = read(RECORDINGS / 'pose2sim.trc')
    assert (found.joints, found.axes) == ('pose2sim', 'kinect')
    np.testing.assert_allclose(found.seconds, np.arange(12) / 60, atol=1e-6)
    truth = pose2sim_truth(12)[:, None]
    truth[3:5, :, [6, 7, 21, 22]] = np.nan  # the left wrist is not seen there
    seen = np.isfinite(found.bodies).all(-1)
    assert list(np.argwhere(~seen[:, 0, :17])[:, 0]) == [3, 4]
    filled = found._replace(bodies=np.nan_to_num(found.bodies))
    assert error(mapped(filled), truth) < MILLIMETRE


@pytest.fixture(params=['noted', 'real'])
def ezc3d(request, monkeypatch):
    """The library, if it is installed, and what it read of the recordings (write.py noted it)."""
    if request.param == 'real':
        return pytest.importorskip('ezc3d')

    def read_noted(path):
        noted = dict(np.load(path.replace('.c3d', '_c3d.npz')))
        data = {'points': noted.pop('points').astype(float)}
        data['meta_points'] = {'residuals': noted.pop('residuals').astype(float)}
        point = {key: {'value': value.tolist()} for key, value in noted.items()}
        return {'parameters': {'POINT': {'__METADATA__': {}, **point}}, 'data': data}

    module = SimpleNamespace(c3d=read_noted)
    monkeypatch.setitem(sys.modules, 'ezc3d', module)
    return module


def gait_truth(frames, people):
    """The joints that Plug-in Gait's markers of the known bodies stand for, by the page's words."""
    at = dict(
        zip(GAIT, np.moveaxis(wear(actors(frames, people), GAIT.values()), -2, 0), strict=True)
    )
    truth = actors(frames, people).copy()
    truth[:, :, 3] = (at['LFHD'] + at['RFHD'] + at['LBHD'] + at['RBHD']) / 4
    truth[:, :, 20] = (at['C7'] + at['CLAV']) / 2
    truth[:, :, 2] = truth[:, :, 20] * 2 / 3 + truth[:, :, 3] / 3
    truth[:, :, 0] = (at['LASI'] + at['RASI'] + at['LPSI'] + at['RPSI']) / 4
    truth[:, :, 1] = ((at['T10'] + at['STRN']) / 2 + truth[:, :, 0]) / 2
    for side, first, hip, tip, thumb in (('L', 4, 12, 21, 22), ('R', 8, 16, 23, 24)):
        wrist, hand = (at[f'{side}WRA'] + at[f'{side}WRB']) / 2, at[f'{side}FIN']
        arm = [at[f'{side}SHO'], at[f'{side}ELB'], wrist, hand]
        truth[:, :, first : first + 4] = np.stack(arm, 2)
        pelvis = truth[:, :, 0]
        socket = pelvis + 0.6 * (at[f'{side}ASI'] - pelvis) - (0, 0.08, 0)
        leg = [socket, at[f'{side}KNE'], at[f'{side}ANK'], at[f'{side}TOE']]
        truth[:, :, hip : hip + 4] = np.stack(leg, 2)
        truth[:, :, tip], truth[:, :, thumb] = 1.75 * hand - 0.75 * wrist, hand
    return truth


def test_c3d_of_plug_in_gait(ezc3d):
    found = read(RECORDINGS / 'ezc3d.c3d')
    assert (found.joints, found.axes) == ('plugingait', 'zup')
    np.testing.assert_allclose(found.seconds, np.arange(15) / 100, atol=1e-6)
    assert np.isnan(found.bodies[:5, 1]).all()
    truth = gait_truth(15, 2)
    truth[:5, 1] = truth[7:9, 0] = np.nan  # nobody, and a body without RWRA
    assert error(mapped(found), truth) < MILLIMETRE


def test_c3d_marker_with_a_residual_of_minus_1_is_lost(ezc3d, monkeypatch):
    """ezc3d 1.7 gives NaN for its place; other versions may leave a place there."""
    file = ezc3d.c3d(str(RECORDINGS / 'ezc3d.c3d'))
    points, residuals = file['data']['points'], file['data']['meta_points']['residuals']
    residuals[0, [*GAIT].index('LKNE'), 4] = -1
    assert np.isfinite(points[:, [*GAIT].index('LKNE'), 4]).all()
    monkeypatch.setattr(ezc3d, 'c3d', lambda path: file)
    knee = list(SKELETONS['plugingait'].names).index('left knee')
    seen = np.isfinite(read(RECORDINGS / 'ezc3d.c3d').bodies[:, 0, knee]).all(-1)
    assert np.flatnonzero(~seen).tolist() == [4]


def test_c3d_of_pose2sim_has_y_up_and_whole_millimetres(ezc3d):
    found = read(RECORDINGS / 'pose2sim.c3d')
    assert (found.joints, found.axes) == ('pose2sim', 'kinect')
    gaps = np.isnan(found.bodies[:, 0]).all(-1)
    wrist = list(SKELETONS['pose2sim'].names).index('left wrist')
    assert np.argwhere(gaps[:, :17]).tolist() == [[3, wrist], [4, wrist]]  # it writes 0 0 0
    truth = wear(actors(12), SKELETONS['pose2sim'].names[:17])
    truth[3:5, :, wrist] = np.nan
    assert error(found.bodies[:, :, :17], truth) < MILLIMETRE


def test_opensim_trc():
    """The file says mm and holds metres; an empty line follows its header."""
    found = read(RECORDINGS / 'opensim.trc')
    found = found._replace(bodies=np.nan_to_num(found.bodies))
    assert error(mapped(found), pose2sim_truth(8)[:, None]) < MILLIMETRE
    np.testing.assert_allclose(found.seconds, np.arange(8) / 30, atol=1e-6)


def test_sports2d_trc_in_pixels():
    """The file says m and holds pixels, y down."""
    found = read(RECORDINGS / 'sports2d_px.trc')
    assert found.axes == 'image'
    names = SKELETONS['pose2sim'].names[:17]
    pixels = wear(actors(8), names)[..., :2] * (-PIXELS, -PIXELS) + PLACE
    assert error(found.bodies[:, :, :17], in_metres(pixels)) < MILLIMETRE


def write_trc(path, body, unit='m', rate=50, end='\t', numbers=None, empty='', times=None):
    """A .trc of a body (T, 22, 3) in some tool's manner; NaN is written as `empty`."""
    numbers = np.arange(len(body)) if numbers is None else numbers
    keys = ['DataRate', 'CameraRate', 'NumFrames', 'NumMarkers', 'Units', 'OrigDataRate']
    values = [rate, rate, len(body), len(POSE2SIM), unit, rate]
    lines = [
        f'PathFileType\t4\t(X/Y/Z)\t{path.name}',
        '\t'.join(keys),
        '\t'.join(map(str, values)),
        'Frame#\tTime\t' + '\t\t\t'.join(POSE2SIM) + end,
        '\t\t' + '\t'.join(f'{axis}{joint}' for joint in range(22) for axis in 'XYZ') + end,
    ]
    times = np.array(numbers) / rate if times is None else times
    for number, second, joints in zip(numbers, times, body, strict=True):
        cells = [empty if np.isnan(place) else f'{place:.6f}' for place in joints.ravel()]
        lines.append('\t'.join([str(number), f'{second:.3f}', *cells]).rstrip('\t') + end)
    path.write_text('\r\n'.join(lines) + '\r\n')
    return path


@pytest.mark.parametrize(
    ('manner', 'scale'),
    [
        ({'unit': 'mm'}, 1000),
        ({'unit': 'm'}, 1000),
        ({'unit': 'mm'}, 1),
        ({'unit': 'cm', 'end': ''}, 100),
        ({'unit': '', 'empty': 'nan'}, 1),
        ({'unit': 'm', 'empty': 'NaN', 'end': ' \t'}, 1),
        ({'unit': 'm', 'empty': '0'}, 1),
    ],
)
def test_trc_in_other_manners(manner, scale, tmp_path):
    body = wear(actors(9)[:, 0], POSE2SIM.values())
    names = [*POSE2SIM]
    body[3, names.index('RKnee')] = body[5:7, -1] = np.nan  # the last may lack its tabs
    found = read(write_trc(tmp_path / 'a.trc', body * scale, **manner))
    truth = np.stack([body[:, names.index(name)] for name in ORDER], 1)
    assert error(found.bodies[:, 0, :17], truth) < MILLIMETRE
    assert np.isnan(found.bodies[3, 0, ORDER.index('RKnee')]).all()
    assert np.isnan(found.bodies[5:7, 0, ORDER.index('LWrist')]).all()
    assert np.isfinite(found.bodies[:, 0, :17]).sum() == 3 * (9 * 17 - 3)


ORDER = [
    next(marker for marker, joint in POSE2SIM.items() if joint == name)
    for name in SKELETONS['pose2sim'].names[:17]
]


def test_trc_frames_belong_where_their_numbers_say(tmp_path):
    body = wear(actors(6)[:, 0], POSE2SIM.values())
    found = read(write_trc(tmp_path / 'a.trc', body, numbers=[10, 11, 12, 20, 21, 22]))
    np.testing.assert_allclose(found.seconds, np.array([0, 1, 2, 10, 11, 12]) / 50, atol=1e-4)


def test_trc_times_count_more_than_the_rate_in_the_header(tmp_path):
    """Pose2Sim's trc_desample takes every third frame of 100 a second, and writes 30."""
    body = wear(actors(6)[:, 0], POSE2SIM.values())
    path = write_trc(tmp_path / 'a.trc', body, rate=30, times=np.arange(6) * 0.03)
    np.testing.assert_allclose(read(path).seconds, np.arange(6) * 0.03, atol=1e-6)


def test_markers_of_plug_in_gait_in_a_trc_without_psi_but_a_sacr(tmp_path):
    markers = wear(actors(5)[:, 0], GAIT.values())
    names = [*GAIT]
    sacrum = markers[:, [names.index('LPSI'), names.index('RPSI')]].mean(1)
    markers[:, names.index('LPSI')] = sacrum
    names[names.index('LPSI')] = 'SACR'
    names[names.index('RPSI')] = 'other'
    lines = ['', 'DataRate\tUnits', '100\tm', 'Frame#\tTime\t' + '\t\t\t'.join(names), '']
    for number, places in enumerate(markers):
        lines.append('\t'.join(map(str, [number, number / 100, *places.ravel()])))
    (tmp_path / 'a.trc').write_text('\n'.join(lines))
    found = mapped(read(tmp_path / 'a.trc'))
    truth = gait_truth(5, 1)
    assert error(found[:, :, [0, 1, 12, 16]], truth[:, :, [0, 1, 12, 16]]) < MILLIMETRE


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'RKnee': 'Knee R', 'Hip': 'a', 'LHip': 'b'}, None),
        (dict.fromkeys(POSE2SIM, 'M'), 'no marker of Pose2Sim or Plug-in Gait among M, M'),
    ],
)
def test_trc_with_other_names(change, says, tmp_path):
    path = write_trc(tmp_path / 'a.trc', wear(actors(4)[:, 0], POSE2SIM.values()))
    text = path.read_text().split('\n')
    cells = [change.get(cell, cell) for cell in text[3].split('\t')]
    path.write_text('\n'.join([*text[:3], '\t'.join(cells), *text[4:]]))
    if says:
        with pytest.raises(SkeletonError, match=says):
            read(path)
    else:
        assert np.isnan(read(path).bodies[..., ORDER.index('RKnee'), :]).all()


@pytest.mark.parametrize(
    ('scale', 'says'), [(1e5, 'no person in m, mm or cm'), (np.nan, 'no marker of Pose2Sim')]
)
def test_trc_of_no_person(scale, says, tmp_path):
    path = write_trc(tmp_path / 'a.trc', wear(actors(4)[:, 0], POSE2SIM.values()) * scale)
    with pytest.raises(SkeletonError, match=says):
        read(path)


def test_trc_with_a_word_for_a_number(tmp_path):
    path = write_trc(tmp_path / 'a.trc', wear(actors(4)[:, 0], POSE2SIM.values()))
    path.write_text(path.read_text().replace('\n2\t', '\n2\tx'))
    with pytest.raises(SkeletonError, match='frame 2: not numbers'):
        read(path)
