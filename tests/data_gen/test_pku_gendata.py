"""The PKU-MMD command: made videos in the official layout, against a computation joint by joint,
and known flaws.
"""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_gen import pipeline, pku_gendata, workers
from data_gen.skeleton import SkeletonError
from feeder.dataset import load_split
from tools.common import cli

FRAMES = {'0002-L': 120, '0002-M': 90, '0003-R': 420, '0004-M': 60}
LABELS = {
    '0002-L': ['20,5,40,2', '51,40,41,1', '7,30,50,2', '1,60,60,2', '3,70,118,2', '9,118,120,1'],
    '0002-M': ['1,0,90,2'],
    '0003-R': [
        ' 33 , 10 , 400 , 1',
        '',
        '2,410,405,1',
        '5,400,420,2',
        '52,0,5,1',
        '5,415,421,2',
        '',
        '6,430,440,1',
    ],
    '0004-M': ['0,0,9,2', '12,10,30,2', '12,30,60,2', '4,x,60,2', '4,1,60', '4,-3,10,2'],
}
TRAINING = {'cross_subject_v2': '0002-L, 0002-M,', 'cross_view_v2': '0002-M,0004-M.txt,0009-M'}
# Index of the line: (label, start, end) of what is left of LABELS, by hand.
KEPT = {
    '0002-L': {0: (19, 5, 40), 1: (50, 40, 41), 2: (6, 30, 50), 4: (2, 70, 118)},
    '0002-M': {0: (0, 0, 90)},
    '0003-R': {0: (32, 10, 400), 3: (4, 400, 420), 5: (4, 415, 420)},
    '0004-M': {1: (11, 10, 30), 2: (11, 30, 60)},
}
TRAINS = {'xsub': ['0002-L', '0002-M'], 'xview': ['0002-M', '0004-M']}
SPLITS = [(benchmark, split) for benchmark in TRAINS for split in ('train', 'val')]


@pytest.fixture(scope='session')
def numbers():
    """{video: (F, 150)} as they stand in the text: one body, two, bodies that come and go, lost
    joints, none.
    """
    rng = np.random.default_rng(0)
    videos = {video: rng.normal(1, 0.5, (frames, 150)).round(6) for video, frames in FRAMES.items()}
    first, second = slice(0, 75), slice(75, 150)
    videos['0002-L'][[5, 6, 20], first] = 0  # not there at the start of an action
    videos['0002-L'][[30, 31, 39], second] = 0
    videos['0002-L'][118:] = 0
    videos['0002-M'][:, second] = 0
    videos['0003-R'][::3, 9:12] = 0
    videos['0003-R'][200:310, second] = 0
    videos['0004-M'][10:30, first] = 0  # only the second body
    return videos


@pytest.fixture
def raw(tmp_path, numbers):
    """The folder of the made data set, in the official layout."""
    folder = tmp_path / 'raw'
    (folder / 'skeleton').mkdir(parents=True)
    (folder / 'label').mkdir()
    for video, rows in numbers.items():
        np.savetxt(folder / 'skeleton' / f'{video}.txt', rows, '%.6f')
        (folder / 'label' / f'{video}.txt').write_text('\n'.join(LABELS[video]) + '\n')
    for stem, training in TRAINING.items():
        (folder / f'{stem}.txt').write_text(
            f'Training videos: \n{training}\nValidation videos:\n0003-R\n'
        )
    return folder


@pytest.fixture
def prepare(raw, tmp_path):
    """prepare(*flags): run the command on the made data set, to tmp_path/out; its exit code."""

    def command(*flags):
        return pku_gendata.main(
            ['--data_path', str(raw), '--out_folder', str(tmp_path / 'out'), '-j', '2', *flags]
        )

    return command


def expected(numbers, benchmark, split):
    """(names, labels, num_frame, rows (3, 300, 25, 2)) of one split, naively."""
    names, labels, lengths, rows = [], [], [], []
    for video in sorted(FRAMES):
        if (video in TRAINS[benchmark]) == (split == 'train'):
            for index, (label, start, end) in sorted(KEPT[video].items()):
                names.append(f'{video}.txt_{index}')
                labels.append(label)
                lengths.append(min(end - start, 300))
                rows.append(
                    naive_row([list(map(float, row)) for row in numbers[video][start:end][:300]])
                )
    return names, labels, lengths, np.array(rows)


def naive_row(frames):
    """An action, a list of 150 numbers per frame, normalised as the protocol describes it: (3, 300,
    25, 2).
    """
    bodies = [
        [[row[75 * m + 3 * v : 75 * m + 3 * v + 3] for v in range(25)] for row in frames]
        for m in (0, 1)
    ]
    if not any(map(there, bodies[0])):
        bodies.reverse()
    bodies = [filled(body) for body in bodies]
    right, left = bodies[0][0][8], bodies[0][0][4]
    rotation = rotation_to_x([right[c] - left[c] for c in range(3)])
    row = np.zeros((3, 300, 25, 2))
    for m, body in enumerate(bodies):
        for t, frame in enumerate(body):
            for v, joint in enumerate(frame):
                if any(joint):
                    centred = [joint[c] - bodies[0][t][1][c] for c in range(3)]
                    for c in range(3):
                        row[c, t, v, m] = sum(rotation[c][k] * centred[k] for k in range(3))
    return row


def there(frame):
    return any(number for joint in frame for number in joint)


def filled(body):
    """A body's frames, 300 of them, the gap at its end filled with the frames before it over and
    over.
    """
    if not there(body[0]):
        body = [frame for frame in body if there(frame)]
    while body and not there(body[-1]):
        body = body[:-1]
    return [body[t % len(body)] if body else [[0, 0, 0]] * 25 for t in range(300)]


def rotation_to_x(line):
    """Rodrigues' formula about line x (1, 0, 0)."""
    angle = np.arccos(line[0] / np.linalg.norm(line))
    _, y, z = np.cross(line, (1, 0, 0)) / np.linalg.norm(np.cross(line, (1, 0, 0)))
    cross = np.array([[0, -z, y], [z, 0, 0], [-y, 0, 0]])
    return (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross).tolist()


def skipped(folder):
    return json.loads((folder / 'manifest.json').read_text())['skipped']


def test_padded_arrays_equal_a_naive_computation(numbers, prepare, tmp_path):
    assert prepare() == 0
    for benchmark, split in SPLITS:
        names, labels, lengths, rows = expected(numbers, benchmark, split)
        folder = tmp_path / 'out' / benchmark
        data, num_frame = (
            np.load(folder / f'{split}_data_joint.npy'),
            np.load(folder / f'{split}_num_frame.npy'),
        )
        assert pickle.loads((folder / f'{split}_label.pkl').read_bytes()) == (names, labels)
        assert (num_frame.tolist(), num_frame.dtype, data.dtype) == (lengths, np.int64, np.float32)
        np.testing.assert_allclose(data, rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize('layout', ['padded', 'trimmed'])
def test_both_layouts_load(numbers, prepare, tmp_path, capsys, layout):
    assert prepare('--layout', layout) == 0
    for benchmark, split in SPLITS:
        names, labels, lengths, rows = expected(numbers, benchmark, split)
        clips = load_split(tmp_path / 'out' / benchmark, split, quiet=True)
        assert (clips.names, clips.labels.tolist(), clips.num_frames.tolist()) == (
            names,
            labels,
            lengths,
        )
        frames = [
            row.transpose(1, 3, 2, 0)[:length] for row, length in zip(rows, lengths, strict=True)
        ]
        np.testing.assert_allclose(clips.frames.numpy(), np.concatenate(frames), rtol=0, atol=1e-6)
    assert 'warning' not in capsys.readouterr().err


def test_each_video_is_read_once(prepare, monkeypatch):
    def in_this_process(jobs, layout, _):
        return ((job, [workers.prepare(xyz, layout) for xyz in job.read(job.path)]) for job in jobs)

    def counted(path):
        opened.append(Path(path).stem)
        return read(path)

    opened, read = [], pku_gendata.read_frames
    monkeypatch.setattr(pku_gendata, 'read_frames', counted)
    monkeypatch.setattr(pipeline, 'in_order', in_this_process)
    assert prepare() == 0
    assert opened == sorted(FRAMES)


def test_what_is_skipped_is_listed_with_the_reason(prepare, raw, tmp_path, capsys):
    reasons = {
        '0002-L.txt_3': 'label line 4: 60,60 is not an interval',
        '0002-L.txt_5': 'label line 6: all coordinates are zero',
        '0003-R.txt_2': 'label line 3: 410,405 is not an interval',
        '0003-R.txt_4': 'label line 5: class 52 is not in 1 to 51',
        '0003-R.txt_7': 'label line 8: 430,440 begins after the 420 frames of the video',
        '0004-M.txt_0': 'label line 1: class 0 is not in 1 to 51',
        '0004-M.txt_3': 'label line 4: not class,start,end,confidence',
        '0004-M.txt_4': 'label line 5: not class,start,end,confidence',
        '0004-M.txt_5': 'label line 6: -3,10 is not an interval',
    }
    assert prepare() == 0
    assert skipped(tmp_path / 'out' / 'xsub') == skipped(tmp_path / 'out' / 'xview') == reasons
    out = capsys.readouterr().out
    assert '9 recordings skipped:' in out
    for name, reason in reasons.items():
        video = raw / 'skeleton' / name.rpartition('_')[0]
        assert f'  {video}: {reason}\n' in out


def test_every_line_of_a_phase_with_overlaps_is_kept(raw, prepare, tmp_path, capsys):
    """Names and labels against the loop of the peers: every line of every video's label file."""
    (raw / 'label' / '0002-L.txt').write_text(
        '20,5,40,2\n7,30,50,2\n7,30,50,2\n3,0,110,2\n9,45,60,1\n'
    )
    (raw / 'label' / '0003-R.txt').write_text('1,400,420,2\n5,415,421,2\n6,10,400,1\n')
    (raw / 'label' / '0004-M.txt').write_text('12,30,60,2\n')
    assert prepare('--benchmark', 'xsub') == 0
    for split, videos in (('train', ['0002-L', '0002-M']), ('val', ['0003-R', '0004-M'])):
        names, labels = [], []
        for video in videos:
            for number, row in enumerate(
                np.loadtxt(raw / 'label' / f'{video}.txt', delimiter=',', ndmin=2)
            ):
                names.append(f'{video}.txt_{number}')
                labels.append(int(row[0]) - 1)
        folder = tmp_path / 'out' / 'xsub'
        assert pickle.loads((folder / f'{split}_label.pkl').read_bytes()) == (names, labels)
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert (manifest['overlapping'], manifest['skipped']) == ('kept', {})
    assert (
        '10 actions in the label files, 5 of them overlap an earlier one\n'
        in capsys.readouterr().out
    )


def test_overlapping_actions_are_skipped_on_demand(prepare, tmp_path, mistake):
    assert prepare('--benchmark', 'xsub', 'xsub') == 0
    with pytest.raises(cli.InputError, match='other arrays'):
        prepare('--benchmark', 'xsub', '--skip-overlapping')
    assert prepare('--benchmark', 'xsub', '--skip-overlapping', '--overwrite') == 0
    folder = tmp_path / 'out' / 'xsub'
    names, _ = pickle.loads((folder / 'train_label.pkl').read_bytes())
    assert names == ['0002-L.txt_0', '0002-L.txt_1', '0002-L.txt_4', '0002-M.txt_0']
    assert json.loads((folder / 'manifest.json').read_text())['overlapping'] == 'skipped'
    assert skipped(folder)['0002-L.txt_2'] == 'label line 3: 30,50 overlaps 5,40 of line 1'
    assert skipped(folder)['0003-R.txt_5'] == 'label line 6: 415,421 overlaps 400,420 of line 4'
    assert '--keep-overlapping' in mistake(pku_gendata.main, ['--keep-overlapping'])


@pytest.mark.parametrize(
    ('dataset', 'num_actions', 'official'),
    [('pku1', 21545, True), ('pku1', 21544, False), ('pku2', 7000, True)],
)
def test_the_number_of_actions_is_compared_with_the_official_one(
    capsys, dataset, num_actions, official
):
    pku_gendata.print_count(dataset, num_actions, 0)
    assert ('not the official number: 21545' in capsys.readouterr().out) != official


def test_skipped_actions_do_not_overlap_others(tmp_path):
    (tmp_path / 'V.txt').write_text('99,0,50,1\n1,60,70,1\n2,65,80,1\n3,70,90,1\n4,10,60,1\n')
    actions = pku_gendata.read_actions(tmp_path / 'V.txt', skip_overlapping=True)
    assert [name for name, action in actions.items() if not action.flaw] == [
        'V.txt_1',
        'V.txt_3',
        'V.txt_4',
    ]


def test_frames_after_the_300th_of_an_action_are_ignored():
    frames = np.zeros((320, 2, 25, 3), np.float32)
    frames[310:] = 1
    action = pku_gendata.Action(1, label=0, start=5, end=320)
    assert str(pku_gendata.cut(frames, action)) == 'label line 1: all coordinates are zero'
    frames[9, 1] = 2
    clip = pku_gendata.cut(frames, action)
    assert clip.shape == (3, 315, 25, 2)  # preparation cuts it, and counts it
    assert (clip[:, 4, :, 0] == 2).all()
    assert not clip[:, :300, :, 1].any()


def test_videos_that_lack_something_are_listed(prepare, raw, tmp_path, capsys):
    (raw / 'label' / '0002-M.txt').unlink()
    (raw / 'label' / '0004-M.txt').write_text('\n')
    (raw / 'label' / '0008-L.txt').write_text('1,0,9,2\n')
    assert prepare('--benchmark', 'xsub') == 0
    (raw / 'label' / '0004-M.txt').write_text('1,0,9,2\n')
    assert prepare('--benchmark', 'xview') == 0
    first, second = capsys.readouterr().out.split('xview:')
    assert 'without a label file or an action in it:\n  0002-M\n  0004-M\n' in first
    assert '1 videos left out, without a skeleton:\n  0008-L\n' in first
    assert '1 training videos of xview are missing:\n  0009-M\n' in second
    assert json.loads((tmp_path / 'out' / 'xview' / 'manifest.json').read_text())[
        'missing_videos'
    ] == ['0009-M']


@pytest.mark.parametrize(
    ('line', 'text'),
    [
        (3, '1 ' * 149),
        (3, '1 ' * 151),
        (3, '1 ' * 149 + 'x'),
        (3, '1 ' * 149 + 'nan'),
        (3, '1 ' * 149 + '1e39'),
        (3, ''),
        (3, '1,' * 150),
        (1, '1 2'),
        (1, ''),
        (1, '\0'),
    ],
    ids=lambda value: repr(value)[-8:],
)
def test_bad_text_is_skipped_by_line(tmp_path, recwarn, line, text):
    path = tmp_path / 'V.txt'
    path.write_text('\n'.join(['1 ' * 150] * (line - 1) + [text] + ['1 ' * 150] * 2 * (line > 1)))
    with pytest.raises(SkeletonError, match=f'^line {line}: not 150 finite numbers$'):
        pku_gendata.read_frames(path)
    assert not recwarn


def test_a_bad_video_costs_only_its_own_recordings(prepare, raw, tmp_path, capsys):
    path = raw / 'skeleton' / '0002-L.txt'
    path.write_text(path.read_text().replace('\n', ' 0.5\n', 1))
    (raw / 'skeleton' / '0004-M.txt').unlink()
    (raw / 'skeleton' / '0004-M.txt').mkdir()
    assert prepare('--benchmark', 'xsub') == 0
    reasons = skipped(tmp_path / 'out' / 'xsub')
    assert {reasons[f'0002-L.txt_{index}'] for index in range(6)} == {
        'line 1: not 150 finite numbers'
    }
    assert reasons['0004-M.txt_1'].startswith('cannot be read')
    assert f'  {path}: line 1: not 150 finite numbers\n' in capsys.readouterr().out
    kept = [
        load_split(tmp_path / 'out' / 'xsub', split, quiet=True).names for split in ('train', 'val')
    ]
    assert kept == [['0002-M.txt_0'], ['0003-R.txt_0', '0003-R.txt_3', '0003-R.txt_5']]


@pytest.mark.parametrize(
    ('dataset', 'name', 'text'),
    [
        ('pku2', 'cross_view_v2.txt', 'Training videos:\nA-L,B-M\nValidation videos:\nC-R'),
        ('pku2', 'cross-view-v2.txt', '\nA-L, B-M, '),
        ('pku2', 'cross_view.txt', '\r\nA-L.txt,B-M.txt\r\n'),
        ('pku1', 'cross-view.txt', 'x\nA-L B-M B-M'),
        ('pku1', 'cross_view.txt', 'x\n A-L ,B-M.txt,,'),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_split_files_as_they_are_in_the_wild(tmp_path, dataset, name, text):
    (tmp_path / name).write_text(text, newline='')
    assert pku_gendata.read_split(tmp_path, dataset, 'xview') == (tmp_path / name, ['A-L', 'B-M'])


def test_only_the_phase_is_given(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(pku_gendata, 'ROOT', tmp_path)
    monkeypatch.setattr(pku_gendata, 'DEFAULT_FOLDERS', {'pku1': raw, 'pku2': tmp_path / 'none'})
    for stem in TRAINING:
        (raw / f'{stem}.txt').rename(raw / f'{stem.removesuffix("_v2")}.txt'.replace('_', '-'))
    assert pku_gendata.main(['--dataset', 'pku1']) == 0
    files = {str(path.relative_to(tmp_path / 'data')) for path in tmp_path.glob('data/*/*/[tv]*')}
    assert files == {
        f'PKU-MMD-1/{benchmark}/{split}_{kind}'
        for benchmark, split in SPLITS
        for kind in ('data_joint.npy', 'num_frame.npy', 'label.pkl')
    }


def test_runs_inside_its_folder(raw, tmp_path):
    subprocess.run(
        [
            sys.executable,
            'pku_gendata.py',
            '--data_path',
            str(raw),
            '--out_folder',
            str(tmp_path / 'out'),
        ],
        cwd=Path(pku_gendata.__file__).parent,
        capture_output=True,
        check=True,
    )
    assert len(list(tmp_path.glob('out/*/*_data_joint.npy'))) == 4


@pytest.mark.parametrize(
    ('spoil', 'flags', 'says'),
    [
        (None, ('--data_path', '/none'), '/none/skeleton: no such folder'),
        (lambda raw: (raw / 'label').rename(raw / 'actions'), (), 'label: no such folder'),
        (
            lambda raw: (raw / 'cross_view_v2.txt').unlink(),
            (),
            'cross_view_v2.txt, cross-view_v2.txt',
        ),
        (
            lambda raw: (raw / 'cross_view_v2.txt').write_text('0002-L,0002-M'),
            (),
            'line 2 lists no training videos',
        ),
        (
            lambda raw: (raw / 'cross_view_v2.txt').write_text('\nA01N01-L'),
            (),
            'none of its 1 training videos',
        ),
        (None, ('--benchmark', 'xsetup'), 'xsetup'),
        (None, ('--dataset', 'pku3'), 'pku3'),
        (None, ('-j', '0'), '--workers'),
    ],
)
def test_a_mistake_is_one_line(mistake, raw, tmp_path, spoil, flags, says):
    if spoil:
        spoil(raw)
    line = mistake(pku_gendata.main, ['--data_path', raw, '--out_folder', tmp_path / 'out', *flags])
    assert line.startswith('error: ')
    assert says in line
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('skeletons', 'labels', 'split'),
    [
        ('PKU_Skeleton_Renew', 'Train_Label_PKU_final', 'Split'),
        ('Skeleton_v2', 'Label_PKUMMD_v2', 'Split_v2'),
        ('Data/PKU_Skeleton_Renew', 'Label/Train_Label_PKU_final', 'Split'),
        ('skeleton/x_skeleton', 'label/label', '.'),
    ],
)
def test_the_downloads_own_folder_names(raw, prepare, tmp_path, skeletons, labels, split):
    """With byte order marks at the start of the text files, too."""
    assert prepare() == 0
    before = (tmp_path / 'out/xsub/train_data_joint.npy').read_bytes()
    for folder, name in ('skeleton', skeletons), ('label', labels):
        (raw / folder).rename(raw / 'moving')
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / 'moving').rename(raw / name)
    (raw / split).mkdir(exist_ok=True)
    for path in raw.glob('*.txt'):
        path.rename(raw / split / path.name)
    for path in raw.rglob('*.txt'):
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert prepare('--overwrite') == 0
    assert (tmp_path / 'out/xsub/train_data_joint.npy').read_bytes() == before


@pytest.mark.parametrize('place', ['PKUMMDv2.zip', 'Data/Skeleton_v2.7z'])
def test_archives_that_are_not_unpacked(tmp_path, mistake, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    for given in tmp_path, tmp_path / place:
        assert f'unpack {tmp_path / place} first' in mistake(
            pku_gendata.main, ['--data_path', given]
        )


def test_a_folder_too_high_or_several(raw, tmp_path, mistake):
    assert f'use --data_path {raw}' in mistake(pku_gendata.main, ['--data_path', tmp_path])
    (raw / 'label').rename(raw / 'label_old')
    (raw / 'label_new').mkdir()
    (raw / 'label_new' / '0002-L.txt').write_text('1,0,9,2')
    line = mistake(pku_gendata.main, ['--data_path', raw])
    assert 'several folders of label files, remove all but one: label_new, label_old' in line


def test_long_lists_are_cut(capsys):
    pku_gendata.print_list('videos', list(map(str, range(20))))
    assert '…' not in capsys.readouterr().out
    pku_gendata.print_list('videos', list(map(str, range(23))))
    assert capsys.readouterr().out.splitlines()[-2:] == ['  19', '  … and 3 more']
