"""Skeletons: where bones, floor and bodies are drawn, what the views say, and the files written."""

import numpy as np
import pytest
from PIL import Image

from data_gen.class_names import CLASS_NAMES
from data_gen.protocols import Data
from data_gen.skeleton import PARENTS
from feeder.augmentations import Augmentation
from tools.analysis import drawing, skeleton

REST = np.zeros((25, 3))  # a person facing the sensor, 3 m away: y up, x to the sensor's left
REST[:, 2], REST[3, 1], REST[[15, 19], 1] = 3, 0.7, -0.9
REST[[4, 8], 0], REST[[4, 8], 1] = (-0.2, 0.2), 0.4


def test_the_picture_is_as_the_sensor_sees_it():
    lines, floor = drawing.bones(REST[None, None])
    joints = lines[0, 0, :, 0]
    assert joints[3, 1] > joints[4, 1] > joints[15, 1]  # head, shoulder, foot
    assert joints[4, 0] > joints[8, 0]  # the person's left shoulder is on the right
    assert floor[:2, 1].max() < joints[15, 1] < floor[2:, 1].min()  # the feet are on it
    assert ((lines >= 0) & (lines <= 1)).all()
    assert ((floor >= 0) & (floor <= 1)).all()
    for joint, parent in enumerate(PARENTS):
        np.testing.assert_array_equal(lines[0, 0, joint, 1], joints[parent])


def test_a_missing_body_is_not_drawn():
    two = np.stack((np.stack((REST, REST + (1, 0, 0))), np.stack((REST, 0 * REST))))
    lines, _ = drawing.bones(two)
    assert np.isnan(lines).any((2, 3, 4)).tolist() == [[False, False], [False, True]]
    assert np.isnan(drawing.bones(0 * two)[0]).all()
    first, second = drawing.draw_poses(drawing.canvas(2, 1, 1), two, np.array([(0, 0), (1, 0)]))
    assert not np.allclose(first.get_color(), second.get_color())
    np.testing.assert_allclose(
        first.get_segments()[25:], np.array(first.get_segments()[:25]) + (1, 0), atol=1e-6
    )


def test_what_the_views_say(random_dataset):
    frames = random_dataset([100]).frames
    said = []
    for seed in range(12):
        rows = skeleton.view_rows(frames, seed)
        again = skeleton.view_rows(frames, seed)
        assert [title for title, _ in rows] == [title for title, _ in again]
        assert [title.split(' view')[0] for title, _ in rows] == [
            'joint',
            'bone',
            'motion',
            'fused',
        ]
        for title, poses in rows:
            words = title.split()
            first, last = int(words[3]), int(words[5].rstrip(','))
            assert 0 <= first < last <= 99
            assert last - first >= 63  # a crop has 64 frames or more
            zero = (poses == 0).all((0, 1, 3)).sum()
            assert zero == (15 if title.endswith('15 joints set to zero') else 0)
            said.append(title.split(', ')[1].rstrip('0123456789.'))
    assert {*said} == {
        'sheared by up to ',
        '15 joints set to zero',
        '15 joints multiplied by a random matrix',
    }
    small = Augmentation(shear=0.1)
    titles = [title for seed in range(5) for title, _ in skeleton.view_rows(frames, seed, small)]
    assert all(float(title.split()[-1]) <= 0.1 for title in titles if 'shear' in title)


@pytest.mark.parametrize('frames', [1, 31])
def test_files_of_a_raw_recording(tmp_path, write_skeleton, frames, capsys):
    raw = tmp_path / 'S001C001P001R001A007.skeleton'
    write_skeleton(raw, [[REST + 0.01 * frame, REST + (1, 0, 0)] for frame in range(frames)])
    skeleton.main([str(raw), '--views', '--out', str(tmp_path / 'out' / 'clip.png')])
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'clip.gif',
        'clip.pdf',
        'clip.png',
    ]
    assert f'S001C001P001R001A007  A007  {frames} frame' in capsys.readouterr().out
    with Image.open(tmp_path / 'out' / 'clip.gif') as gif:
        assert gif.n_frames == -(-frames // 2)
        if frames > 1:
            assert gif.info['duration'] == 70
            gif.seek(gif.n_frames // 2)
        colours = {colour for _, colour in gif.convert('RGB').getcolors(100_000)}
    for wanted in ((0, 114, 178), (213, 94, 0)):  # both bodies
        assert min(np.abs(np.subtract(wanted, colour)).max() for colour in colours) < 12


def test_a_clip_of_arrays_by_name_and_number(tmp_path, padded_arrays):
    arrays = Data(tmp_path, 'ntu60', 'cross_subject')
    made = padded_arrays(arrays.path)
    data, num_frame, names, labels = made['val']
    for clip in ('2', names[2], names[2].removesuffix('.skeleton')):
        title, poses = skeleton.read_clip(arrays, 'val', clip)
        assert title == f'{names[2][:20]}  {CLASS_NAMES["ntu60"][labels[2]]}'
        np.testing.assert_array_equal(poses, data[2].transpose(1, 3, 2, 0)[: num_frame[2]])


def test_bad_input_is_one_line(tmp_path, padded_arrays, mistake):
    padded_arrays(tmp_path / 'NTU-RGB-D-60-AGCN/xsub')
    rest = ['--data-root', tmp_path, '--out', tmp_path / 'out']
    line = mistake(skeleton.main, ['S001C001P002R001A012', *rest])
    assert (
        'S001C001P002R001A012.skeleton; some that are there: S001C001P002R001A002.skeleton' in line
    )
    assert '(0 to 7)' in mistake(skeleton.main, ['8', *rest])
    assert 'is not there: prepare ntu60 first' in mistake(
        skeleton.main, ['8', '--protocol', 'cross_view', *rest]
    )
    (tmp_path / 'bad.skeleton').write_text('1\nx')
    line = mistake(skeleton.main, [tmp_path / 'bad.skeleton', *rest])
    assert 'bad.skeleton: line 2: expected the number of bodies' in line
    assert 'name a file, FILE.png' in mistake(skeleton.main, ['0', '--out', tmp_path])
