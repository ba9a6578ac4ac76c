"""Archives of other projects, written by their rules from the reference and from made recordings."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_gen import archive_gendata, archives, ntu_gendata
from data_gen.preprocess import normalize
from data_gen.protocols import DATASETS, Name
from data_gen.skeleton import read_xyz

KEY = {'xsub': 'performer', 'xview': 'camera', 'xsetup': 'setup'}
FILE = {
    'ntu60': {'xsub': 'NTU60_CS.npz', 'xview': 'NTU60_XView.npz'},
    'ntu120': {'xsub': 'NTU120_CSub.npz', 'xsetup': 'NTU120_XSet.npz'},
}


def ctr_gcn(path, clips, dataset, benchmark, save=np.savez, doubled=True):
    """Write {Name: bodies (2, T, 25, 3)} as CTR-GCN does: minus joint 2 of the first frame, by
    performer, camera …
    """
    known, arrays = DATASETS[dataset], {}
    for part in ('train', 'test'):
        names = [
            name for name in sorted(clips) if known.trains(name, benchmark) == (part == 'train')
        ]
        names.sort(key=lambda name: getattr(name, KEY[benchmark]))
        x = np.zeros((len(names), 300, 2, 25, 3), np.float32)
        for row, name in zip(x, names, strict=True):
            bodies = clips[name].astype(np.float32)
            first = bodies[0].any((1, 2)).argmax()
            moved = np.where(bodies.any((2, 3), keepdims=True), bodies - bodies[0, first, 1], 0)
            if doubled and dataset == 'ntu120' and not bodies[1].any():
                moved[1] = moved[0]
            row[: bodies.shape[1]] = moved.swapaxes(0, 1)
        arrays |= {
            f'x_{part}': x.reshape(len(x), 300, 150),
            f'y_{part}': np.eye(known.classes)[[name.action - 1 for name in names]],
        }
    save(path, **arrays)
    return arrays


def pyskl(path, clips, protocols=('xsub', 'xview'), dataset='ntu60', protocol=2):
    known = DATASETS[dataset]
    split = {
        f'{"xset" if each == "xsetup" else each}_{part}': [
            str(name) for name in clips if known.trains(name, each) == (part == 'train')
        ]
        for each in protocols
        for part in ('train', 'val')
    }
    annotations = [
        {
            'frame_dir': str(name),
            'label': name.action - 1,
            'total_frames': bodies.shape[1],
            'keypoint': bodies[: 2 if bodies[1].any() else 1].astype(np.float16),
        }
        for name, bodies in clips.items()
    ]
    path.write_bytes(pickle.dumps({'split': split, 'annotations': annotations}, protocol))


def raw_clips(folder):
    return {
        Name.parse(path.stem): read_xyz(path).transpose(3, 1, 2, 0)
        for path in sorted(folder.glob('*.skeleton'))
    }


def made_clips(number, frames=20):
    """{Name: bodies (2, T, 25, 3)}: every third clip has two bodies."""
    rng, clips = np.random.default_rng(0), {}
    for clip in range(number):
        name = Name(1, clip % 3 + 1, clip % 8 + 1, clip // 40 + 1, clip % 60 + 1)
        bodies = rng.normal(1, 0.3, (2, frames + clip % 7, 25, 3)).round(4)
        bodies[0] *= 1.5
        clips[name] = bodies * np.array([1, clip % 3 == 0])[:, None, None, None]
    return clips


def write_names(path, clips):
    path.write_text('\n'.join(map(str, sorted(clips))))
    return path


def prepare(archive, out, *more):
    return archive_gendata.main(
        [str(archive), '--out_folder', str(out), '-j', '2', *map(str, more)]
    )


def read(folder, split):
    names, labels = pickle.loads((folder / f'{split}_label.pkl').read_bytes())
    data, counts = (np.load(folder / f'{split}_{what}.npy') for what in ('data_joint', 'num_frame'))
    return data, counts.tolist(), names, labels


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    }


def assert_same_as_raw(prepared, from_raw, clips, atol, worst, trimmed=False):
    """Equal names and labels; equal frame counts and coordinates, but for clips that end with empty
    frames.

    98.5 % of a one-body clip without empty frames are within `atol`, and everything is within
    `worst`, both in metres. trimmed: of those clips, an archive has the frames up to the last that is
    not empty.
    """
    compared = 0
    for split in ('train', 'val'):
        ours, raw = read(prepared, split), read(from_raw, split)
        assert ours[2:] == raw[2:]
        for name, clip, count, expected, frames in zip(raw[2], *ours[:2], *raw[:2], strict=True):
            bodies = clips[Name.parse(name.removesuffix('.skeleton'))]
            last = bodies.any((0, 2, 3)).nonzero()[0][-1] + 1
            if trimmed and last < frames:
                expected, frames = normalize(bodies[:, :last].transpose(3, 1, 2, 0)), last
            assert count == frames
            compared += last == bodies.shape[1]
            difference = np.abs(clip - expected)
            assert difference.max() < worst, name
            if bodies[0].any((1, 2)).all() and not bodies[1].any():
                assert np.quantile(difference[..., 0], 0.985) < atol, name
    assert compared > len(clips) // 2


@pytest.fixture(scope='module')
def from_raw(reference, tmp_path_factory):
    """(clips, folder): the reference recordings, and what ntu_gendata makes of them."""
    out = tmp_path_factory.mktemp('from_raw')
    ntu_gendata.main(
        ['--data_path', str(reference / 'raw'), '--dataset', 'ntu120', '--out_folder', str(out)]
    )
    return raw_clips(reference / 'raw'), out


@pytest.mark.parametrize('benchmark', ['xsub', 'xsetup'])
def test_npz_equals_raw(from_raw, tmp_path, benchmark, capsys):
    clips, raw = from_raw
    ctr_gcn(tmp_path / FILE['ntu120'][benchmark], clips, 'ntu120', benchmark)
    names = write_names(tmp_path / 'skes_available_name.txt', clips)
    assert prepare(tmp_path / FILE['ntu120'][benchmark], tmp_path / 'out', '--names', names) == 0
    assert_same_as_raw(
        tmp_path / 'out' / benchmark, raw / benchmark, clips, 1e-6, 1e-6, trimmed=True
    )
    assert archive_gendata.NOTE in capsys.readouterr().out
    manifest = json.loads((tmp_path / 'out' / benchmark / 'manifest.json').read_text())
    assert (manifest['note'], manifest['archive']) == (
        archive_gendata.NOTE,
        FILE['ntu120'][benchmark],
    )


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_pickle_equals_raw(from_raw, tmp_path, protocol):
    clips, raw = from_raw
    pyskl(tmp_path / 'ntu120_3danno.pkl', clips, ('xsub', 'xsetup'), 'ntu120', protocol)
    assert prepare(tmp_path / 'ntu120_3danno.pkl', tmp_path / 'out') == 0
    for benchmark in ('xsub', 'xsetup'):
        assert_same_as_raw(
            tmp_path / 'out' / benchmark, raw / benchmark, clips, 5e-3, 12e-3, trimmed=True
        )


def test_padding_of_a_pickle_does_not_count(tmp_path):
    """Neither what lies after total_frames, nor empty frames before it."""
    clips = made_clips(12)
    pyskl(tmp_path / 'ntu60_3danno.pkl', clips)
    content = pickle.loads((tmp_path / 'ntu60_3danno.pkl').read_bytes())
    for index, clip in enumerate(content['annotations']):
        bodies = clip['keypoint']
        clip['keypoint'] = np.concatenate((bodies, bodies if index % 2 else 0 * bodies), 1)
        clip['total_frames'] = bodies.shape[1] if index % 2 else 2 * bodies.shape[1]
    (tmp_path / 'padded').mkdir()
    (tmp_path / 'padded/ntu60_3danno.pkl').write_bytes(pickle.dumps(content))
    found = []
    for source in ('ntu60_3danno.pkl', 'padded/ntu60_3danno.pkl'):
        assert prepare(tmp_path / source, tmp_path / 'out', '--overwrite') == 0
        found.append([read(tmp_path / 'out/xsub', split) for split in ('train', 'val')])
    for (data, *facts), (padded, *facts_padded) in zip(*found, strict=True):
        assert facts == facts_padded
        np.testing.assert_array_equal(data, padded)


def test_doubled_bodies_are_cleared(tmp_path):
    """Only where they are equal throughout, and only in an .npz, where a frame of difference means
    two people.
    """
    clips = made_clips(30)
    ctr_gcn(tmp_path / 'NTU120_XSub.npz', clips, 'ntu120', 'xsub')
    prepare(
        tmp_path / 'NTU120_XSub.npz',
        tmp_path / 'out',
        '--names',
        write_names(tmp_path / 'names.txt', clips),
    )
    seen = {}
    for split in ('train', 'val'):
        data, _, names, _ = read(tmp_path / 'out/xsub', split)
        seen |= dict(zip(names, data[..., 1].any((1, 2, 3)), strict=True))
    assert seen == {f'{name}.skeleton': bodies[1].any() for name, bodies in clips.items()}
    assert set(seen.values()) == {False, True}
    same = np.repeat(made_clips(1)[Name(1, 1, 1, 1, 1)][:1], 2, 0)
    same[1, 5, 3, 0] += 1e-3
    rows = same.swapaxes(0, 1).reshape(1, -1, 150).astype(np.float32)
    np.savez(tmp_path / 'one.npz', x=rows)
    with zipfile.ZipFile(tmp_path / 'one.npz') as archive:
        member = archives.find_member(archive, 'x', tmp_path)
    assert (archives.read_row(member, 0, False, '')[0][..., 1] != 0).any()


def test_numbered_clips_and_protocols_by_name(tmp_path, capsys):
    clips = made_clips(24)
    arrays = ctr_gcn(tmp_path / 'NTU60_XView.npz', clips, 'ntu60', 'xview')
    assert prepare(tmp_path / 'NTU60_XView.npz', tmp_path / 'out') == 0
    data, counts, names, labels = read(tmp_path / 'out/xview', 'train')
    assert names == [f'train_{row:06d}' for row in range(16)]
    assert labels == arrays['y_train'].argmax(1).tolist()
    assert counts == [np.flatnonzero(row.any(1))[-1] + 1 for row in arrays['x_train']]
    assert 'not the official counts: 37646 + 18932\n' in capsys.readouterr().out
    assert prepare(tmp_path / 'NTU60_XView.npz', tmp_path / 'out') == 0
    assert 'finished already' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('file', 'dataset'), [('PKUv1_XSub.npz', 'pku1'), ('PKUv2_XSub.npz', 'pku2')]
)
def test_pku_keeps_the_order_of_bodies(tmp_path, file, dataset):
    """As pku_gendata does: also where the second moves more; but a first body that is never there
    is the second.
    """
    x = np.zeros((4, 300, 2, 75), np.float32)
    x[:, :30] = np.random.default_rng(0).normal(1, 1, (4, 30, 2, 75)) * [[[[1]], [[2]]]][0][0]
    x[0, :, 1] = x[1, :, 0] = 0
    x[2, :, 0] /= 4
    np.savez(
        tmp_path / file,
        **{
            f'{what}_{part}': each
            for part in ('train', 'test')
            for what, each in (('x', x.reshape(4, 300, 150)), ('y', np.eye(51)[[0, 3, 50, 7]]))
        },
    )
    assert prepare(tmp_path / file, tmp_path / 'out') == 0
    data, counts, _, labels = read(tmp_path / 'out/xsub', 'val')
    assert (counts, labels) == ([30] * 4, [0, 3, 50, 7])
    for row, clip, order in zip(x, data, ([0, 1], [1, 0], [0, 1], [0, 1]), strict=True):
        bodies = row[:30, order].reshape(30, 2, 25, 3)
        np.testing.assert_array_equal(
            clip, normalize(bodies.transpose(3, 0, 2, 1).astype(np.float64))
        )
    assert json.loads((tmp_path / 'out/xsub/manifest.json').read_text())['dataset'] == dataset


def test_compressed_archive(tmp_path, capsys):
    """The same arrays; unpacked beside the output meanwhile, with a line that says so."""
    clips = made_clips(24)
    for folder, save in (('stored', np.savez), ('packed', np.savez_compressed)):
        (tmp_path / folder).mkdir()
        ctr_gcn(tmp_path / folder / 'NTU60_CS.npz', clips, 'ntu60', 'xsub', save)
        assert prepare(tmp_path / folder / 'NTU60_CS.npz', tmp_path / folder / 'out') == 0
    assert 'x_train is compressed: unpacking' in capsys.readouterr().out
    stored, packed = contents(tmp_path / 'stored/out'), contents(tmp_path / 'packed/out')
    assert stored.keys() == packed.keys()
    different = [name for name in stored if stored[name] != packed[name]]
    assert different == ['xsub/recordings.json']  # with the digest of the archive


def test_clips_without_a_body_or_not_in_metres_are_skipped(tmp_path, capsys):
    clips = list(made_clips(24).items())
    for (_, bodies), value in zip(clips, (0, np.nan, 1000), strict=False):
        bodies *= value
    pyskl(tmp_path / 'ntu60_3danno.pkl', dict(clips))
    assert prepare(tmp_path / 'ntu60_3danno.pkl', tmp_path / 'out') == 0
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith('  ') and '.pkl' in line
    ]
    assert [line.split('A0')[1] for line in lines] == [
        '01: no body in any frame',
        '02: not all coordinates are finite',
        '03: coordinates go up to ' + lines[2].split('up to ')[1],
    ]


@pytest.mark.parametrize('file', ['NTU60_CS.npz', 'ntu60_3danno.pkl'])
def test_killed_and_resumed(tmp_path, file):
    """kill -9 in the middle; the run after that resumes, and ends with the bytes of an undisturbed
    one.
    """
    clips = made_clips(200, 60)
    if file.endswith('npz'):
        ctr_gcn(tmp_path / file, clips, 'ntu60', 'xsub', np.savez_compressed)
    else:
        pyskl(tmp_path / file, clips)
    assert prepare(tmp_path / file, tmp_path / 'undisturbed') == 0
    command = [
        sys.executable,
        archive_gendata.__file__,
        tmp_path / file,
        '--out_folder',
        tmp_path / 'out',
        '-j',
        '1',
    ]
    journal, run = (
        tmp_path / 'out/xsub/train_journal.jsonl',
        subprocess.Popen(command, stdout=subprocess.DEVNULL),
    )
    while run.poll() is None and not (journal.is_file() and journal.read_bytes().count(b'\n') > 20):
        time.sleep(0.001)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not (tmp_path / 'out/xsub/manifest.json').exists()
    assert (
        b'resuming an earlier run'
        in subprocess.run(command, check=True, capture_output=True).stdout
    )
    assert contents(tmp_path / 'out') == contents(tmp_path / 'undisturbed')


def spoil(what, value):
    def change(path):
        arrays = dict(np.load(path))
        arrays[what] = value(arrays[what])
        np.savez(path, **arrays)

    return change


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (
            spoil('x_test', lambda x: x[:, :, :100]),
            'x_test is float32 (4, 300, 100), not floats (clips, frames, 150)',
        ),
        (spoil('x_train', lambda x: x.astype(int)), 'x_train is int64'),
        (spoil('y_train', lambda y: y * 2), 'row 0 (from 0) of y_train is not one-hot'),
        (
            spoil('y_test', lambda y: np.where(np.arange(4)[:, None] == 2, 1.0, y)),
            'row 2 (from 0) of y_test is not',
        ),
        (
            spoil('y_test', lambda y: y.argmax(1)),
            'y_test is int64 (4,), not one-hot (clips, classes)',
        ),
        (spoil('y_test', lambda y: y[:3]), '4 clips but 3 labels in the val split'),
        (
            spoil('y_train', lambda y: np.pad(y, ((0, 0), (0, 60)))),
            'labels of 120 classes; ntu60 has 60',
        ),
        (lambda path: np.savez(path, x_train=np.zeros(3)), 'no array x_test; there are x_train'),
        (
            lambda path: path.write_bytes(path.read_bytes()[:5000]),
            'neither a complete .npz nor a .pkl',
        ),
        (lambda path: path.unlink(), 'no such file'),
    ],
)
def test_wrong_npz(tmp_path, mistake, change, reason):
    path = tmp_path / 'NTU60_CS.npz'
    ctr_gcn(path, made_clips(12), 'ntu60', 'xsub')
    change(path)
    assert reason in mistake(archive_gendata.main, [path, '--out_folder', tmp_path / 'out'])
    assert not list(tmp_path.rglob('*.npy'))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda names: names[:-1], '3 names for 4 clips in the val split'),
        (
            lambda names: [name[:-3] + '011' if name.endswith('A001') else name for name in names],
            'S001C001P001R001A011 for a clip with label 0 (from 0) in the train split',
        ),
    ],
)
def test_names_that_do_not_fit(tmp_path, mistake, change, reason):
    path, clips = tmp_path / 'NTU60_CS.npz', made_clips(12)
    ctr_gcn(path, clips, 'ntu60', 'xsub')
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(change([str(name) for name in sorted(clips)])))
    assert reason in mistake(
        archive_gendata.main, [path, '--out_folder', tmp_path / 'out', '--names', names]
    )


def alter(**more):
    def change(content):
        content['annotations'][3] |= more

    return change


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (alter(label=5), 'with label 5 (from 0) is not a name and label of ntu60'),
        (alter(label=60), 'with label 60'),
        (alter(frame_dir='v_Basketball'), 'v_Basketball with label 3'),
        (
            alter(keypoint=np.zeros((1, 20, 17, 2), np.float16)),
            '(1, 20, 17, 2), not floats (bodies, frames, 25, 3)',
        ),
        (lambda content: content['annotations'].pop(), 'has no annotation'),
        (
            lambda content: content['split'].update(xsub_val=content['split']['xsub_train']),
            'belongs to the other split',
        ),
        (
            lambda content: content['split'].update(train1=[]),
            'its split train1 is none of NTU RGB+D',
        ),
        (lambda content: content.pop('split'), 'not as pyskl writes it'),
        (lambda content: content.update(odd=Path('x')), 'it asks for pathlib'),
    ],
)
def test_wrong_pickle(tmp_path, mistake, change, reason):
    path = tmp_path / 'ntu60_3danno.pkl'
    pyskl(path, made_clips(12))
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))
    assert reason in mistake(archive_gendata.main, [path, '--out_folder', tmp_path / 'out'])


@pytest.mark.parametrize('content', [[], [{'frame_dir': 'a', 'label': 1}], 'text', None])
def test_a_pickle_of_something_else(tmp_path, mistake, content):
    path = tmp_path / 'ntu60_3danno.pkl'
    path.write_bytes(pickle.dumps(content))
    said = mistake(archive_gendata.main, [path, '--out_folder', tmp_path / 'out'])
    kind = type(content).__name__
    assert f'{path} holds a {kind}, where pyskl writes a dict with split and annotations' in said


class Attack:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize('protocol', [0, 2, 5])
def test_a_pickle_runs_no_code(tmp_path, mistake, protocol):
    path, trace = tmp_path / 'ntu60_3danno.pkl', tmp_path / 'trace'
    attacks = (
        Attack(os.mkdir, str(trace)),
        Attack(eval, f'open({str(trace)!r}, "w")'),
        Attack(np.load, str(path)),
    )
    for attack in attacks:
        path.write_bytes(
            b'\x80\x02' * (protocol == 0) + pickle.dumps({'annotations': [attack]}, protocol)
        )
        assert 'it asks for' in mistake(
            archive_gendata.main, [path, '--out_folder', tmp_path / 'out']
        )
    assert not trace.exists()


def test_other_files_are_refused_with_the_reason(tmp_path, mistake):
    (tmp_path / 'pku_v2_xsub_train.pkl').write_bytes(pickle.dumps([np.zeros(3)]))
    assert 'no published code says' in mistake(
        archive_gendata.main, [tmp_path / 'pku_v2_xsub_train.pkl']
    )
    ctr_gcn(tmp_path / 'mine.npz', made_clips(6), 'ntu60', 'xsub')
    assert 'add --benchmark' in mistake(archive_gendata.main, [tmp_path / 'mine.npz'])
    shutil.copy(tmp_path / 'mine.npz', tmp_path / 'NTU60_CSet.npz')
    assert 'ntu60 has no protocol xsetup' in mistake(
        archive_gendata.main, [tmp_path / 'NTU60_CSet.npz']
    )
    assert (
        prepare(tmp_path / 'mine.npz', tmp_path / 'out', '--benchmark', 'xsub') == 0
    )  # 60 classes: ntu60
    assert (tmp_path / 'out/xsub/manifest.json').is_file()
    (tmp_path / 'NTU60_CV.npz').write_text('version https://git-lfs.github.com/spec/v1')
    assert 'neither a complete .npz' in mistake(archive_gendata.main, [tmp_path / 'NTU60_CV.npz'])


def test_a_joint_whose_coordinates_add_up_to_zero_is_not_missing():
    """With an origin in the body that happens by chance; normalisation would take the joint for one
    that is missing.
    """
    bodies = np.zeros((2, 6, 25, 3))
    bodies[0] = np.random.default_rng(0).normal(0, 1, (6, 25, 3))
    bodies[0, 3, 7] = 0.5, -0.25, -0.25

    class Rows:
        def row(self, index):
            return bodies.swapaxes(0, 1).reshape(6, 150)

    (clip,) = archives.read_row(Rows(), 0, False, 'NTU60_CS.npz')
    assert (clip[..., 0].sum(0) != 0).all()
    np.testing.assert_allclose(
        clip[:, :, :, 0] - clip[:, :1, :1, 0],
        (bodies[0] - bodies[0, 0, 0]).transpose(2, 0, 1),
        rtol=0,
        atol=1e-12,
    )
    assert not clip[..., 1].any()
