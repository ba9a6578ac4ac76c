"""From the files of other tools to arrays: against the known body, normalised."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from known_body import PIXELS, PLACE, POSE2SIM, actors, wear

from data_gen import custom_gendata, manifest
from data_gen.joint_maps import SKELETONS, to_ntu
from data_gen.preprocess import normalize

RECORDINGS = Path(__file__).parent / 'recordings'
HEADER = 'path,label,split\n'
MILLIMETRE = 0.001


@pytest.fixture
def prepare(tmp_path):
    """prepare(names, *flags): prepares files of this folder; (rows, numbers of frames, names)."""

    def command(names, *flags, code=0):
        lines = ''.join(f'{name},{"wave" if name else ""},train\n' for name in names)
        (tmp_path / 'list.csv').write_text(HEADER + lines)
        where = ['--recordings', str(tmp_path / 'list.csv'), '--out_folder', str(tmp_path / 'out')]
        assert custom_gendata.main([*where, '-j', '1', '--overwrite', *flags]) == code
        folder = tmp_path / 'out' / 'split'
        if code:
            return None
        names, _ = pickle.loads((folder / 'train_label.pkl').read_bytes())
        data = np.load(folder / 'train_data_joint.npy')
        return data, np.load(folder / 'train_num_frame.npy').tolist(), names

    return command


def normalised(*bodies):
    """The row that bodies (T, 25, 3) become."""
    return normalize(np.stack([*bodies, np.zeros_like(bodies[0])][:2], -1).transpose(2, 0, 1, 3))


def turned(body):
    """A body (T, 25, 3) turned about y until its shoulders begin along x."""
    x, _, z = body[0, 8] - body[0, 4]
    cosine, sine = np.array([x, z]) / np.hypot(x, z)
    return body @ np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])


def known(joints, frames=12):
    """The known body as the map of a skeleton makes it of its joints."""
    return to_ntu(wear(actors(frames)[:, 0], SKELETONS[joints].names), joints, 'kinect')


def warnings(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith('warning')]


def test_what_the_libraries_wrote(prepare, tmp_path, capsys):
    for name in ('pose2sim_json', 'pose2sim.trc', 'opensim.trc'):
        (tmp_path / name).symlink_to(RECORDINGS / name)
    assert prepare(['pose2sim.trc', 'opensim.trc'], '--fps', '15')[1] == [6, 8]  # they have a rate
    data, num_frames, names = prepare(['pose2sim_json', 'pose2sim.trc', 'opensim.trc'])
    assert num_frames == [4, 6, 8]  # pose2sim.trc has twelve frames, at 60 a second
    assert np.abs(data[2] - normalised(turned(known('pose2sim', 8)))).max() < MILLIMETRE
    # The wrist of two frames is filled along a line.
    off = np.abs(data[1] - normalised(turned(known('pose2sim')[::2]))).max((0, 1, 3))
    left_hand = [6, 7, 21, 22]
    assert np.delete(off, left_hand).max() < MILLIMETRE
    assert off[left_hand].max() < 0.02
    pixels = wear(actors(4, 2), SKELETONS['halpe26'].names)[..., :2] * -PIXELS + PLACE
    size = np.median(np.ptp(pixels[[0, 1, 3], 0], 1).max(-1))
    flat = np.pad(pixels * 1.5 / size, ((0, 0), (0, 0), (0, 0), (0, 1)))
    flat[2] = 0
    bodies = to_ntu(flat, 'halpe26', 'image').swapaxes(0, 1)
    off = min((data[0] - normalised(*each) for each in (bodies, bodies[::-1])), key=np.ptp)
    # The ear that lacks in the second frame is filled along a line, and makes head and neck.
    assert np.abs(np.delete(off, [2, 3], 2)).max() < MILLIMETRE
    assert np.abs(off).max() < 0.01
    assert {*warnings(capsys)} == {'warning: no line is val, so evaluation will have no test clips'}
    notes = manifest.read(tmp_path / 'out/split')['notes']
    assert notes['joints were missing and filled'] == [4, 108 + 12 * 17 + 8 * 17]


def write_azure(path, body, milliseconds):
    names = SKELETONS['azure32'].names
    places = (wear(body, names) * (-1, -1, 1) * 1000).tolist()
    from data_gen.tool_files import AZURE

    frames = [
        {
            'bodies': [{'body_id': 1, 'joint_positions': joints}],
            'timestamp_usec': time * 1000,
            'frame_id': 2 * frame,
        }
        for frame, (joints, time) in enumerate(zip(places, milliseconds, strict=True))
    ]
    path.write_text(json.dumps({'frames': frames, 'joint_names': AZURE.split()}))


def test_azure_frames_go_by_their_time(prepare, tmp_path, capsys):
    body = actors(24)[:, 0]
    body[10] = (body[9] + body[11]) / 2  # the frame that is not there
    kept = np.delete(np.arange(24), 10)
    write_azure(tmp_path / 'a.json', body[kept], kept * 100 / 3)
    data, num_frames, _ = prepare(['a.json'])
    truth = to_ntu(wear(body, SKELETONS['azure32'].names), 'azure32', 'kinect')
    assert num_frames == [24]
    assert np.abs(data[0] - normalised(truth)).max() < MILLIMETRE
    assert len(warnings(capsys)) == 1


def test_flags_come_before_what_files_usually_have(prepare, tmp_path, capsys):
    body = wear(actors(8)[:, 0], POSE2SIM.values())
    text = (RECORDINGS / 'opensim.trc').read_text().splitlines()
    rows = [
        '\t'.join(map(str, [number, number / 30, *(places * (-1, 1, 1))[:, [0, 2, 1]].ravel()]))
        for number, places in enumerate(body)
    ]
    (tmp_path / 'zup.trc').write_text('\n'.join(text[:6] + rows))
    prepare(['zup.trc'])
    assert any('--axes zup' in line for line in warnings(capsys))
    data, _, _ = prepare(['zup.trc'], '--axes', 'zup', '--no-turn')
    assert len(warnings(capsys)) == 1
    assert np.abs(data[0] - normalised(known('pose2sim', 8))).max() < MILLIMETRE


@pytest.mark.parametrize(('shape', 'factor'), [((4,), 1), ((5,), 1), ((553, 3), 1000)])
def test_landmarks_of_mediapipe_and_freemocap(shape, factor, prepare, tmp_path, capsys):
    clip = wear(actors(9)[:, 0], SKELETONS['mediapipe33'].names)
    if factor == 1:
        full = np.zeros((9, 33, *shape))
        full[..., :3], full[..., 3] = clip * (-1, -1, 1), 0.9
        flags = []
    else:
        full = np.random.default_rng(0).normal(0, 300, (9, *shape))
        full[:, :33] = (clip * (-1, 1, 1))[..., [0, 2, 1]] * factor
        flags = ['--axes', 'zup', '--no-turn']
    np.save(tmp_path / 'a.npy', full)
    data, _, _ = prepare(['a.npy'], '--joints', 'mediapipe33', *flags)
    assert np.abs(data[0] - normalised(known('mediapipe33', 9))).max() < MILLIMETRE
    assert len(warnings(capsys)) == 1


@pytest.mark.parametrize('shape', [(9, 33, 4), (9, 2, 33, 5), (9, 553, 3)])
def test_landmarks_without_a_flag_get_the_advice(shape, prepare, tmp_path, capsys):
    np.save(tmp_path / 'a.npy', np.ones(shape))
    prepare(['a.npy'], code=1)
    assert '33 joints need --joints mediapipe33' in capsys.readouterr().out


def test_json_has_no_rate_and_takes_that_of_the_flag(prepare, tmp_path):
    folder = tmp_path / 'clip'
    folder.mkdir()
    pixels = wear(actors(9)[:, 0], SKELETONS['coco17'].names)[..., :2] * -PIXELS + PLACE
    for frame, person in enumerate(pixels):
        scored = np.pad(person, ((0, 0), (0, 1)), constant_values=0.9)
        people = [{'pose_keypoints_2d': scored.ravel().tolist()}]
        (folder / f'{frame}.json').write_text(json.dumps({'people': people}))
    assert prepare(['clip'])[1] == [9]
    assert prepare(['clip'], '--fps', '60')[1] == [5]
    assert prepare(['clip'], '--fps', '15')[1] == [17]


def test_another_order_of_as_many_joints_gets_a_warning(prepare, tmp_path, capsys):
    """rtmlib has 25 joints of its own in JSON that looks like OpenPose's."""
    folder = tmp_path / 'clip'
    folder.mkdir()
    for frame, person in enumerate(wear(actors(9)[:, 0], SKELETONS['coco25'].names)):
        scored = np.pad(person[:, :2] * -PIXELS + PLACE, ((0, 0), (0, 1)), constant_values=0.9)
        people = [{'pose_keypoints_2d': scored.ravel().tolist()}]
        (folder / f'{frame}.json').write_text(json.dumps({'people': people}))
    prepare(['clip'])
    assert any('--joints coco25' in line for line in warnings(capsys))
    prepare(['clip'], '--joints', 'coco25')
    assert len(warnings(capsys)) == 1


def test_the_dictionaries_of_txt2npy(prepare, tmp_path):
    one, two = actors(9, 2).swapaxes(0, 1)
    one[4:6] = two[4:6] = 0
    content = {'file_name': 'S001C001P001R001A001', 'nbodys': [2] * 7, 'njoints': 25}
    content |= {'skel_body0': one, 'skel_body1': two, 'rgb_body0': np.zeros((9, 25, 2))}
    np.save(tmp_path / 'a.skeleton.npy', np.array(content))
    data, num_frames, _ = prepare(['a.skeleton.npy'])
    assert num_frames == [9]
    off = min(np.abs(data[0] - normalised(*order)).max() for order in ((one, two), (two, one)))
    assert off < MILLIMETRE


class Evil:
    def __reduce__(self):
        return print, ('code ran',)


def test_a_dictionary_that_runs_code_is_refused(prepare, tmp_path, capsys):
    np.save(tmp_path / 'a.npy', np.array({'skel_body0': Evil()}))
    np.save(tmp_path / 'b.npy', actors(9)[:, 0])
    prepare(['a.npy', 'b.npy'])
    shown = capsys.readouterr().out
    assert 'code ran' not in shown
    assert 'builtins.print' in shown


def test_of_several_arrays_that_fit_one_must_be_named(prepare, tmp_path, capsys):
    body = actors(9)[:, 0]
    np.savez(tmp_path / 'a.npz', raw=body, smooth=body)
    np.savez(tmp_path / 'b.npz', other=np.zeros(3), smooth=body)
    np.savez(tmp_path / 'c.npz', raw=body * 7, joints=body)
    data, _, names = prepare(['a.npz', 'b.npz', 'c.npz'])
    assert names == ['b.npz', 'c.npz']
    assert np.abs(data - normalised(body)).max() < MILLIMETRE
    assert 'a.npz: raw, smooth may be poses: name one of them joints' in capsys.readouterr().out


def test_classes_that_differ_in_case_only_get_a_note(tmp_path, capsys):
    for name in 'ab':
        np.save(tmp_path / f'{name}.npy', actors(9)[:, 0])
    (tmp_path / 'list.csv').write_text(HEADER + 'a.npy,Wave,train\nb.npy,wave,train\n')
    where = ['--recordings', str(tmp_path / 'list.csv'), '--out_folder', str(tmp_path / 'out')]
    assert custom_gendata.main([*where, '-j', '1']) == 0
    assert 'note: some classes differ in upper and lower case only' in capsys.readouterr().err


def test_a_pose_file_is_refused_with_what_converts_it(tmp_path, capsys):
    (tmp_path / 'a.pose').touch()
    (tmp_path / 'list.csv').write_text(HEADER + 'a.pose,wave,train\n')
    with pytest.raises(SystemExit) as stopped:
        custom_gendata.cli.run(
            lambda: custom_gendata.main(['--recordings', str(tmp_path / 'list.csv')])
        )
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f'error: {tmp_path}/list.csv:2: a.pose: ')
    lines = shown.splitlines()[1:5]
    compile('\n'.join(lines), 'the four lines', 'exec')
    page = (Path(custom_gendata.__file__).parent / 'recordings.md').read_text()
    assert '\n'.join(lines[1:]).replace('a.pose.npy', 'a.npy') in page


def test_c3d_without_its_package(tmp_path, mistake, monkeypatch):
    (tmp_path / 'a.c3d').touch()
    (tmp_path / 'list.csv').write_text(HEADER + 'a.c3d,wave,train\n')
    monkeypatch.setattr(custom_gendata, 'find_spec', lambda name: None)
    shown = mistake(custom_gendata.main, ['--recordings', tmp_path / 'list.csv'])
    assert 'pip install ezc3d' in shown
