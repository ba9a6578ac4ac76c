"""Recordings of one's own: every kind of file against a direct computation, what is refused, and
the way to a score.
"""

import ast
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import action_recognition
import action_retrieval
import pretrain
from data_gen import custom_gendata, manifest, pipeline
from data_gen.demo_recordings import BONES
from data_gen.joint_maps import SKELETONS, matrix
from data_gen.poses import read_poses
from data_gen.preprocess import normalize
from data_gen.skeleton import PARENTS, SkeletonError

HEADER = 'path,label,split\n'


@pytest.fixture
def write_list(tmp_path):
    """write_list(lines, header=…): the list.csv of a folder `own`, and its path; `lines` a text."""

    def write(lines, header=HEADER):
        (tmp_path / 'own').mkdir(exist_ok=True)
        (tmp_path / 'own' / 'list.csv').write_text(header + lines)
        return tmp_path / 'own' / 'list.csv'

    return write


@pytest.fixture
def prepare(tmp_path):
    """prepare(list, *flags): run the command; its exit code."""

    def command(recordings, *flags):
        return custom_gendata.main(
            [
                '--recordings',
                str(recordings),
                '--out_folder',
                str(tmp_path / 'data/custom'),
                '-j',
                '1',
                *flags,
            ]
        )

    return command


def poses(frames, bodies=1, joints=25, seed=0):
    """Bodies that move more and more: the last is the liveliest. (T, M, J, 3)"""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0.3, 0.3, (frames, bodies, joints, 3)) * np.arange(1, bodies + 1)[:, None, None]
    )


def warnings(capsys):
    """What was printed about the meaning of the arrays."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith('warning: ') and 'no line is val' not in line]


def read_split(folder, split):
    folder = folder / 'data/custom/split'
    names, labels = pickle.loads((folder / f'{split}_label.pkl').read_bytes())
    num_frames = np.load(folder / f'{split}_num_frame.npy').tolist()
    return np.load(folder / f'{split}_data_joint.npy'), num_frames, names, labels


def expected(*bodies):
    """The row that bodies (T, 25, 3) must become, the liveliest first."""
    xyz = np.zeros((3, len(bodies[0]), 25, 2))
    for slot, body in enumerate(bodies):
        xyz[..., slot] = body.transpose(2, 0, 1)
    return normalize(xyz)


def test_every_kind_of_file(write_list, prepare, write_skeleton, tmp_path):
    lines = write_list(
        'a.skeleton,wave,train\nsub/b.npy,10,train\nc.npz,wave,val\nd.npz,2,train\ne.csv,wave,test\n'
        f'f.csv,2,Train\n{tmp_path}/g.npy,"sit, down",val\n'
    )
    own = lines.parent
    (own / 'sub').mkdir()
    frames = write_skeleton(own / 'a.skeleton', [1] * 6)
    b, c, d, e, f, g = poses(305), poses(4, 2), poses(5, 3), poses(7), poses(8, 2), poses(9)
    np.save(own / 'sub/b.npy', b[:, 0])
    np.savez(own / 'c.npz', other=np.zeros(3), joints=c)
    np.savez(own / 'd.npz', d, np.zeros(3))
    np.savetxt(own / 'e.csv', e.reshape(7, 75), '%.17g', ',', header='x,' * 74 + 'x', comments='')
    np.savetxt(own / 'f.csv', f.reshape(8, 150), '%.17g', ',', newline='\r\n')
    (own / 'f.csv').write_bytes(
        b'\xef\xbb\xbf' + (own / 'f.csv').read_bytes() + b'\n'
    )  # as a spreadsheet saves it
    np.save(tmp_path / 'g.npy', g.astype(np.float32))
    assert prepare(lines) == 0

    data, num_frame, names, labels = read_split(tmp_path, 'train')
    assert names == ['a.skeleton', 'sub/b.npy', 'd.npz', 'f.csv']
    assert (labels, num_frame) == ([3, 1, 0, 0], [6, 300, 5, 8])
    rows = [
        expected(np.concatenate(frames)),
        expected(b[:, 0]),
        expected(d[:, 2], d[:, 1]),
        expected(f[:, 1], f[:, 0]),
    ]
    assert (data == rows).all()
    data, num_frame, names, labels = read_split(tmp_path, 'val')
    assert names == ['c.npz', 'e.csv', f'{tmp_path}/g.npy']
    assert (labels, num_frame) == ([3, 3, 2], [4, 7, 9])
    assert (
        data
        == [expected(c[:, 1], c[:, 0]), expected(e[:, 0]), expected(g[:, 0].astype(np.float32))]
    ).all()
    prepared = manifest.read(tmp_path / 'data/custom/split')
    assert prepared['class_names'] == ['2', '10', 'sit, down', 'wave']
    facts = [prepared[key] for key in ('dataset', 'benchmark', 'joints', 'axes')]
    assert facts == ['custom', 'split', 'ntu25', 'kinect']


@pytest.mark.parametrize('joints', ['kinect20', 'coco17', 'body25', 'mediapipe33'])
def test_other_joints(joints, write_list, prepare, tmp_path):
    lines, count = write_list('a.npy,wave,train\nb.csv,wave,train\n'), len(SKELETONS[joints].names)
    one, two = poses(6, 1, count), poses(4, 2, count)
    np.save(lines.with_name('a.npy'), one)
    np.savetxt(lines.with_name('b.csv'), two.reshape(4, -1), '%.17g', ',')
    assert prepare(lines, '--joints', joints) == 0
    sign = (1, 1, 1) if joints == 'kinect20' else (-1, -1, 1)
    one, two = (
        np.einsum('vj,tmjc->tmvc', matrix(SKELETONS[joints]), clip) * sign for clip in (one, two)
    )
    data = read_split(tmp_path, 'train')[0]
    np.testing.assert_allclose(
        data, [expected(one[:, 0]), expected(two[:, 1], two[:, 0])], rtol=0, atol=1e-5
    )
    assert manifest.read(tmp_path / 'data/custom/split')['joints'] == joints


def test_axes_can_be_given(write_list, prepare, tmp_path):
    lines, clip = write_list('a.npy,wave,train\n'), poses(6)
    np.save(lines.with_name('a.npy'), clip)
    assert prepare(lines, '--axes', 'image') == 0
    assert (read_split(tmp_path, 'train')[0] == expected(clip[:, 0] * (-1, -1, 1))).all()


def test_two_dimensions_get_z_0(write_list, prepare, tmp_path):
    lines = write_list('a.npy,wave,train\nb.npy,wave,train\n')
    clip = poses(6, 2)
    clip[..., 2] = 0
    np.save(lines.with_name('a.npy'), clip[:, 1, :, :2])
    np.save(lines.with_name('b.npy'), clip[..., :2])
    assert prepare(lines) == 0
    assert (
        read_split(tmp_path, 'train')[0] == [expected(clip[:, 1]), expected(clip[:, 1], clip[:, 0])]
    ).all()


BAD_FILES = {
    'joints.npy': (poses(4, 1, 17), 'float64 (4, 1, 17, 3), not numbers (frames, 25, 3 or 2)'),
    'confidence.npy': (np.ones((4, 25, 4)), '(4, 25, 4)'),
    'flat.npy': (np.ones((4, 75)), '(4, 75)'),
    'text.npy': (np.full((4, 25, 3), 'x'), '<U1 (4, 25, 3)'),
    'scalar.npy': (np.array(1.0), 'float64 ()'),
    'empty.npy': (np.zeros((0, 25, 3)), 'no body'),
    'bodies.npy': (np.zeros((4, 0, 25, 3)), 'no body'),
    'zeros.npy': (np.zeros((4, 25, 3)), 'no body'),
    'pickle.npy': (np.array([{}]), 'cannot be read: ValueError: Object arrays'),
    'broken.npz': (b'PK\3\4', 'cannot be read: '),
    'none.npz': (b'', 'cannot be read: '),
    'pixels.npy': (poses(4) + 500, 'must be metres'),
    'nan.npy': (np.full((4, 25, 3), np.nan), 'no body'),
    'inf.npy': (np.where(np.arange(25) == 5, np.inf, 1)[:, None] * poses(8)[:, 0], 'go up to inf'),
    'knee.npy': (
        np.where(np.arange(25) == 13, np.nan, 1)[:, None] * poses(8)[:, 0],
        'the left knee is never seen',
    ),
    'columns.csv': ('1,2,3\n4,5,6\n', '3 columns, not 75'),
    'ragged.csv': ('1,2,3\n1,2\n', '2 or 3 columns'),
    'words.csv': ('x,y,z\n,1,3\n1,2,3\n', 'line 2: not numbers'),
    'hole.csv': ('1,,3\n1,2,3\n', 'line 1: not numbers'),
    'header.csv': ('x,y,z\n', 'no columns'),
    'void.csv': ('', 'no columns'),
    'short.skeleton': ('3\n1\n', 'line 3: the file ends early'),
}


def test_unusable_files_are_skipped_and_listed(write_list, prepare, tmp_path, capsys):
    lines = write_list(
        'good.npy,wave,train\n' + ''.join(f'{name},wave,train\n' for name in BAD_FILES)
    )
    np.save(lines.with_name('good.npy'), poses(4))
    for name, (content, _) in BAD_FILES.items():
        if isinstance(content, np.ndarray):
            np.save(lines.with_name(name), content)
        else:
            lines.with_name(name).write_bytes(
                content.encode() if isinstance(content, str) else content
            )
    assert prepare(lines) == 0
    assert read_split(tmp_path, 'train')[2] == ['good.npy']
    listed = dict(
        line.strip().split(': ', 1)
        for line in capsys.readouterr().out.splitlines()
        if line.startswith('  ')
    )
    assert listed.keys() == {str(lines.with_name(name)) for name in BAD_FILES}
    for name, (_, reason) in BAD_FILES.items():
        assert reason in listed[str(lines.with_name(name))], name
    assert manifest.read(tmp_path / 'data/custom/split')['skipped'].keys() == BAD_FILES.keys()


@pytest.mark.parametrize(
    ('text', 'line', 'says'),
    [
        ('path,label\na.npy,wave\n', 1, 'no column split'),
        ('', 1, 'no column path'),
        (HEADER, 1, 'no recordings'),
        (HEADER + 'a.npy,wave,train\nb.npy,wave,trian\n', 3, '"trian"; write train or val'),
        (HEADER + 'a.npy,wave,\n', 2, 'write train or val'),
        (HEADER + 'a.npy, ,val\n', 2, 'no label'),
        (HEADER + 'a.npy,wave,train\n\nc.npy,wave,val\n', 4, 'no file "c.npy"'),
        (HEADER + ',wave,val\n', 2, 'no file ""'),
        (
            HEADER + 'a.npy,wave,train\nb.npy,wave,val\n../own/a.npy,wave,val\n',
            4,
            'on line 2 already',
        ),
        (HEADER + 'a.npy,wave\n', 2, 'fields'),
        (HEADER + 'a.npy,sit, down,train\n', 2, 'fields'),
        (HEADER + 'a.mp4,wave,train\n', 2, '.skeleton .npy .npz .csv'),
        (HEADER + 'a.npy,wave,train\na.skeleton,wave,train\n', 3, 'not coco17'),
    ],
)
def test_a_mistake_in_the_list_is_one_line(write_list, tmp_path, mistake, text, line, says):
    lines = write_list(text, header='')
    for name in ('a.npy', 'b.npy', 'a.mp4', 'a.skeleton'):
        lines.with_name(name).touch()
    shown = mistake(
        custom_gendata.main,
        ['--recordings', lines, '--joints', 'coco17', '--out_folder', tmp_path / 'out'],
    )
    assert shown.startswith(f'error: {lines}:{line}: ')
    assert says in shown
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('flags', 'says'),
    [
        ([], '--recordings'),
        (['--recordings', '/none.csv'], '/none.csv: no such file'),
        (['-j', '0'], '--workers'),
        (['--joints', 'coco18'], 'coco18'),
        (['--joints', 'nuitrack'], '--joints nuitrack: say by --axes'),
    ],
    ids=str,
)
def test_a_mistake_in_the_flags_is_one_line(write_list, mistake, flags, says):
    recordings = [] if flags == [] else ['--recordings', write_list('')]
    assert says in mistake(custom_gendata.main, [*recordings, *flags])


def test_a_list_from_a_spreadsheet(write_list, prepare, tmp_path):
    """A byte order mark, carriage returns, spaces after commas and more columns do no harm; no
    UTF-8 is a mistake.
    """
    lines = write_list('')
    np.save(lines.with_name('ä.npy'), poses(4))
    lines.write_bytes('\ufeffpath, split, label, notes\r\nä.npy, train, größer, x\r\n'.encode())
    assert prepare(lines) == 0
    assert read_split(tmp_path, 'train')[2] == ['ä.npy']
    assert manifest.read(tmp_path / 'data/custom/split')['class_names'] == ['größer']


@pytest.mark.parametrize('delimiter', [',', ';', '\t'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_lists_of_spreadsheet_programs(tmp_path, delimiter, encoding):
    np.save(tmp_path / 'a.npy', poses(4))
    text = 'Path,LABEL,Split\na.npy,wave,train\n'.replace(',', delimiter)
    (tmp_path / 'list.csv').write_text(text, encoding=encoding)
    (recording,) = custom_gendata.read_list(tmp_path / 'list.csv', 'ntu25')
    assert (recording.name, recording.label, recording.split) == ('a.npy', 'wave', 'train')


@pytest.mark.parametrize('axes', [(1, 0, 2, 3), (3, 0, 2, 1)])
def test_axes_in_another_order_are_refused_with_the_transpose_that_mends_them(tmp_path, axes):
    """As pyskl orders them (M, T, V, C), and as prepared arrays are (C, T, V, M)."""
    right = poses(30, bodies=2)
    np.save(tmp_path / 'wrong.npy', right.transpose(axes))
    with pytest.raises(SkeletonError, match=r'bodies in . frames') as error:
        read_poses(str(tmp_path / 'wrong.npy'), 'ntu25')
    mending = re.search(r'array.transpose(\(.*?\)) puts', str(error.value))[1]
    np.testing.assert_array_equal(
        np.load(tmp_path / 'wrong.npy').transpose(ast.literal_eval(mending)), right
    )


def person(frames=12):
    """Somebody of 1.7 m in NTU RGB+D's joints, three metres from the sensor, who moves a little.
    (T, 25, 3)
    """
    rest = np.zeros((25, 3))
    for joint in (20, 1, 0, 2, 3, *range(4, 20), 22, 24, 21, 23):
        rest[joint] = rest[PARENTS[joint]] + BONES.get(
            joint, np.multiply(BONES.get(joint + 4, (0, 0, 0)), (-1, 1, 1))
        )
    rest[[22, 21]] = rest[[24, 23]] * (-1, 1, 1)
    return rest + (0, 0, 3) + np.random.default_rng(0).normal(0, 0.01, (frames, 25, 3))


def with_score(poses, score):
    return np.concatenate((poses[..., :2], np.broadcast_to(score, (*poses.shape[:-1], 1))), -1)


OTHER_MEANINGS = {
    'normalised': (with_score(person() / 4 + 0.5, 0.9), '--drop-score'),
    'a little outside': (
        with_score(person() / 2.5 + 0.5, np.linspace(0, 1, 25)[:, None]),
        '--drop-score',
    ),
    'pixels': (with_score(person() * 400 + 500, 0.7), '--drop-score'),
    'small pixels': (with_score(person() * 40, 0.7), '--drop-score'),
    'millimetres': (person() * 1000, 'Multiply millimetres by 0.001;'),
    'centred centimetres': ((person() - (0, 0, 3)) * 90, 'Multiply centimetres by 0.01;'),
    'decimetres': (person() * 10, 'Multiply decimetres by 0.1;'),
    'feet': (person() / 0.3048, 'Multiply feet by 0.3048;'),
    'inches': (person() / 0.0254, 'Multiply inches by 0.0254;'),
    'far away': (person() + 200, 'coordinates go up to 203'),
    'millimetres divided twice': (person() / 1000, 'measures 0.0016: was it divided twice'),
    'centimetres divided twice': (person() / 100 + 0.5, 'measures 0.016: was it divided twice'),
    'halved until too small': (person() / 8, 'was it divided twice'),
    'a picture and z': (person() / 4 + (0.5, 0.5, -1), 'fractions of a picture'),
    'a picture in two dimensions': (person()[..., :2] / 4 + 0.5, 'fractions of a picture'),
    'metres by the size of the picture': (
        (person() - (0, 0, 3)) * (640, 480, 1),
        'divide x and y by what they were multiplied with',
    ),
}


@pytest.mark.parametrize('kind', OTHER_MEANINGS)
def test_numbers_of_another_meaning_are_refused_with_the_remedy(tmp_path, kind):
    content, says = OTHER_MEANINGS[kind]
    np.save(tmp_path / 'a.npy', content)
    with pytest.raises(SkeletonError, match=says):
        read_poses(str(tmp_path / 'a.npy'), 'ntu25')
    with_second = np.stack(
        (content, np.zeros_like(content)), 1
    )  # a body that is not seen does not count
    np.save(tmp_path / 'a.npy', with_second)
    with pytest.raises(SkeletonError, match=says):
        read_poses(str(tmp_path / 'a.npy'), 'ntu25')


def test_metres_are_not_taken_for_scores(tmp_path):
    for content in (person(), person() - (0, 0, 3), person() * (1, 1, 0), person() - (0, 0, 2.5)):
        np.save(tmp_path / 'a.npy', content)
        np.testing.assert_array_equal(read_poses(str(tmp_path / 'a.npy'), 'ntu25')[:, 0], content)


def test_drop_score_reads_two_dimensions(write_list, prepare, tmp_path, capsys):
    lines, clip = write_list('a.npy,wave,train\n'), with_score(person(), 0.9)
    np.save(lines.with_name('a.npy'), clip * (400, 400, 1))
    assert prepare(lines) == 1
    np.save(lines.with_name('a.npy'), clip)
    capsys.readouterr()
    assert prepare(lines, '--drop-score') == 0
    assert warnings(capsys) == []
    assert (read_split(tmp_path, 'train')[0] == expected(clip * (1, 1, 0))).all()
    assert manifest.read(tmp_path / 'data/custom/split')['drop_score'] is True


@pytest.mark.parametrize(
    ('order', 'warns'), [(range(25), False), (np.random.default_rng(0).permutation(25), True)]
)
def test_bones_that_are_not_those_of_ntu_get_a_warning(write_list, prepare, capsys, order, warns):
    lines = write_list('a.npy,wave,train\nb.csv,wave,val\nc.npy,wave,val\n')
    np.save(lines.with_name('a.npy'), person()[:, list(order)])
    np.savetxt(lines.with_name('b.csv'), person()[:, list(order)].reshape(12, 75), '%.9g', ',')
    lines.with_name('c.npy').write_bytes(b'broken')
    assert prepare(lines) == 0
    assert ('warning: the bones of these 25 joints' in capsys.readouterr().err) == warns


@pytest.mark.parametrize(
    ('count', 'given', 'says'),
    [
        (17, 'ntu25', 'coco17 (COCO) or h36m17 (Human3.6M)'),
        (20, 'ntu25', 'kinect20 (Kinect v1, UT-Kinect) or msr20 (MSR Action3D)'),
        (33, 'coco17', 'mediapipe33 (MediaPipe)'),
        (
            25,
            'coco17',
            'ntu25 (NTU RGB+D, Kinect v2) or nuitrack (Nuitrack) or coco25 (rtmlib, ViTPose) or '
            "body25 (OpenPose's BODY_25)",
        ),
        (21, 'ntu25', None),
    ],
)
def test_another_number_of_joints_suggests_their_map(tmp_path, count, given, says):
    np.save(tmp_path / 'a.npy', poses(4, 1, count))
    with pytest.raises(SkeletonError) as error:
        read_poses(str(tmp_path / 'a.npy'), given)
    assert str(error.value).partition(' need --joints ')[2] == (says or '')


def test_clips_above_300_frames_are_counted(write_list, prepare, capsys):
    lines = write_list('a.npy,wave,train\nb.npy,wave,train\nc.npy,wave,val\n')
    for name, frames in (('a', 301), ('b', 300), ('c', 500)):
        np.save(lines.with_name(f'{name}.npy'), person(frames))
    assert prepare(lines) == 0
    assert (
        '  of 2 recordings above 300 frames, only the first 300 are used\n'
        in capsys.readouterr().out
    )


def test_another_encoding_is_a_mistake(write_list, mistake):
    lines = write_list('')
    lines.write_bytes(HEADER.encode() + 'ä.npy,wave,train\n'.encode('latin-1'))
    assert f'{lines}: not UTF-8 text' in mistake(custom_gendata.main, ['--recordings', lines])


def test_what_makes_scores_meaningless_gets_a_note(write_list, prepare, capsys):
    lines = write_list(
        'a.npy,wave,train,7\nb.npy,clap,train,\nc.npy,wav,val,7\nd.npy,clap,val,\n',
        'path,label,split,performer\n',
    )
    for name in 'abcd':
        np.save(lines.with_name(f'{name}.npy'), poses(4))
    assert prepare(lines) == 0
    shown = capsys.readouterr()
    assert '2 train + 2 val recordings of 3 classes\n' in shown.out
    performers = json.loads((lines.parents[1] / 'data/custom/split/manifest.json').read_text())[
        'performers'
    ]
    assert performers == {'a.npy': '7', 'c.npy': '7'}
    notes = [line for line in shown.err.splitlines() if line.startswith('note: ')]
    assert notes == [
        'note: these classes are in val but not in train: wav',
        'note: performer 7 is in both train and val',
    ]


def test_a_list_without_val_gets_a_warning(write_list, prepare, capsys):
    lines = write_list('a.npy,wave,train\n')
    np.save(lines.with_name('a.npy'), person())
    assert prepare(lines) == 0
    shown = capsys.readouterr()
    assert '1 train + 0 val recordings of 1 class\n' in shown.out
    assert 'warning: no line is val, so evaluation will have no test clips\n' in shown.err


def test_an_unknown_column_gets_a_warning(write_list, prepare, capsys):
    lines = write_list('a.npy,wave,train,7,x\n', 'path,label,split,subject,\n')
    np.save(lines.with_name('a.npy'), person())
    assert prepare(lines) == 0
    (line,) = warnings(capsys)
    says = "unknown column 'subject', ''; known are path, label, split, performer"
    assert line == f'warning: {lines}: {says}'


def test_many_skipped_files_of_a_kind_are_one_line(write_list, prepare, capsys):
    lines = write_list(
        'good.npy,wave,train\n' + ''.join(f'{n}.npy,wave,train\n' for n in range(23))
    )
    np.save(lines.with_name('good.npy'), person())
    for number in range(23):
        np.save(lines.with_name(f'{number}.npy'), person(4 + number) * (900 + number))
    assert prepare(lines) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith('  ')]
    assert line.startswith(f'  23 recordings, such as {lines.with_name("0.npy")}: a body measures ')
    assert line.endswith(
        'must be metres. Multiply millimetres by 0.001; scale pixels until people are 1.7 tall'
    )


def test_the_range_of_small_numbers(capsys):
    reasons = [f'a body measures {10.0**-number:.1e}' for number in range(5, 12)]
    pipeline.print_reasons([(f'{number}.npy', reason) for number, reason in enumerate(reasons)])
    line = '  7 recordings, such as 0.npy: a body measures 1.0e-11 to 1.0e-05\n'
    assert capsys.readouterr().out == line


@pytest.mark.parametrize('sizes', [[400] * 12, [300 + 40 * number for number in range(12)]])
def test_the_factor_of_many_recordings_in_pixels_fits_all(write_list, prepare, capsys, sizes):
    names = [f'clip{number:02d}.npy' for number in range(12)]
    lines = write_list(''.join(f'{name},wave,train\n' for name in names))
    clips = [person(8)[..., :2] * size for size in sizes]
    for name, clip in zip(names, clips, strict=True):
        np.save(lines.with_name(name), clip)
    assert prepare(lines) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith('  ')]
    assert line.startswith(f'  12 recordings, such as {lines.with_name("clip00.npy")}: a body ')
    factors = [float(each) for each in line.partition('multiplying by about ')[2].split(' to ')]
    right = [1.5 / np.median(np.ptp(clip, 1).max(1)) for clip in (clips[-1], clips[0])]
    assert factors == pytest.approx(sorted({*right}), rel=0.05)
    assert len(factors) == len({*sizes[::11]})


@pytest.fixture
def prepared(write_list, prepare, tmp_path):
    """The folder of a prepared data set `custom`: three classes, each with a pose of its own, 18 +
    9 recordings.
    """
    rng, classes = np.random.default_rng(0), ('clap', 'kick', 'wave')
    pose = dict(zip(classes, rng.normal(0, 0.5, (3, 17, 2)), strict=True))
    rows = [
        (f'{split}{clip}.npy', classes[clip % 3], split)
        for split, clips in (('train', 18), ('val', 9))
        for clip in range(clips)
    ]
    lines = write_list(''.join(','.join(row) + '\n' for row in rows))
    for name, label, _ in rows:
        np.save(lines.with_name(name), pose[label] + rng.normal(0, 0.01, (20, 17, 2)))
    assert prepare(lines, '--joints', 'coco17', '--layout', 'trimmed') == 0
    return tmp_path / 'data'


def test_from_list_to_scores(prepared, tmp_path, mistake):
    where = ['--data-root', str(prepared), '--device', 'cpu']
    pretrain.main(
        [
            *where,
            '--pre-dataset',
            'custom',
            '--hidden-size',
            '8',
            '--epochs',
            '1',
            '--checkpoint-path',
            str(tmp_path / 'checkpoints'),
        ]
    )
    where += ['--finetune-dataset', 'custom', '--results', str(tmp_path / 'r.json')]
    checkpoint = ['--pretrained', str(tmp_path / 'checkpoints/checkpoint_0000.pth.tar')]
    for script, flags in (
        (action_recognition, ['--epochs', '60', '--lr', '1']),
        (action_retrieval, []),
    ):
        script.main([*where, *checkpoint, *flags, '--save-features', str(tmp_path / 'f.npz')])
        results = json.loads((tmp_path / 'r.json').read_text())
        assert results['class_names'] == ['clap', 'kick', 'wave']
        assert results['labels'] == [0, 1, 2] * 3
        assert results['accuracy'] > 80
        kept = ['--load-features', str(tmp_path / 'f.npz'), *flags]
        script.main([*where, *kept])
        assert json.loads((tmp_path / 'r.json').read_text())['class_names'] == [
            'clap',
            'kick',
            'wave',
        ]
        os.rename(
            prepared, tmp_path / 'gone'
        )  # the features alone: the labels say how many classes there are
        script.main([*where, *kept])
        again = json.loads((tmp_path / 'r.json').read_text())
        assert (again['class_names'], again['predictions']) == (None, results['predictions'])
        assert 'prepare custom first' in mistake(script.main, [*where, *checkpoint])
        os.rename(tmp_path / 'gone', prepared)


@pytest.mark.parametrize('script', [action_recognition, action_retrieval])
def test_a_label_beyond_the_named_classes_is_a_mistake(script, prepared, tmp_path, mistake):
    np.savez(
        tmp_path / 'f.npz',
        train=np.ones((2, 4)),
        train_labels=[0, 3],
        val=np.ones((1, 4)),
        val_labels=[0],
    )
    assert 'custom has 3 classes' in mistake(
        script.main,
        [
            '--finetune-dataset',
            'custom',
            '--data-root',
            prepared,
            '--load-features',
            tmp_path / 'f.npz',
        ],
    )


def test_runs_as_a_script_inside_its_folder(write_list, tmp_path):
    lines = write_list('a.npy,wave,train\n')
    np.save(lines.with_name('a.npy'), poses(4))
    subprocess.run(
        [
            sys.executable,
            'custom_gendata.py',
            '--recordings',
            str(lines),
            '--out_folder',
            str(tmp_path / 'data/custom'),
        ],
        cwd=Path(custom_gendata.__file__).parent,
        check=True,
    )
    assert (read_split(tmp_path, 'train')[0] == [expected(poses(4)[:, 0])]).all()
