"""The command: the recorded arrays, and what it makes of folders as they are in the wild."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_gen import ntu_gendata
from data_gen.preprocess import normalize
from data_gen.skeleton import read_xyz
from tools.common import cli

ROOT = Path(ntu_gendata.__file__).resolve().parents[1]
MISSING = 'samples_with_missing_skeletons.txt'
# Distinct frame counts tell the recordings apart; performers 1 2 4 train in x-sub, 3 and 6 do not.
RECORDINGS = {
    'S001C001P004R001A060': 5,
    'S001C001P001R002A007': 3,
    'S002C003P003R001A001': 8,
    'S017C002P002R001A012': 4,
    'S002C001P006R001A033': 6,
    'S001C001P001R001A050': 7,
}


@pytest.fixture
def raw(tmp_path, write_skeleton):
    """raw(folder, {name: frames}): recordings of one body, written in the order given, beside a
    list of others.
    """

    def write(folder='raw', recordings=RECORDINGS):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder).with_name(MISSING).write_text('S009C001P001R001A001')  # not here
        for seed, (name, frames) in enumerate(recordings.items()):
            write_skeleton(tmp_path / folder / f'{name}.skeleton', [1] * frames, seed)
        return tmp_path / folder

    return write


@pytest.fixture
def prepare(tmp_path):
    """prepare(*folders, dataset, out): run the command; its exit code."""

    def command(*folders, dataset='ntu60', out='out', more=()):
        return ntu_gendata.main(
            [
                '--dataset',
                dataset,
                '--data_path',
                *map(str, folders),
                '--out_folder',
                str(tmp_path / out),
                '-j',
                '2',
                *more,
            ]
        )

    return command


def read_split(folder, split):
    names, labels = pickle.loads((folder / f'{split}_label.pkl').read_bytes())
    return (
        np.load(folder / f'{split}_data_joint.npy'),
        np.load(folder / f'{split}_num_frame.npy'),
        names,
        labels,
    )


def contents(folder):
    """Every file below a folder but locks, as bytes, by its relative path."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    }


def rows(folder, benchmark='xsub'):
    """{name without ending: frames} of both splits, after a check that the data are those of that
    recording.
    """
    found = {}
    for split in ('train', 'val'):
        data, num_frame, names, labels = read_split(folder.parent / 'out' / benchmark, split)
        assert data.shape == (len(names), 3, 300, 25, 2)
        file = folder.parent / 'out' / benchmark / f'{split}_data_joint.npy'
        assert file.stat().st_size == 128 + data.nbytes
        assert names == sorted(names)
        assert labels == [int(name[17:20]) - 1 for name in names]
        for name, clip in zip(names, data, strict=True):
            assert (clip == normalize(read_xyz(folder / name))).all()
        found |= dict(
            zip((name.removesuffix('.skeleton') for name in names), num_frame.tolist(), strict=True)
        )
    return found


def test_recorded_arrays(reference, recorded, tmp_path, prepare):
    normalized = dict(
        zip(recorded('data_gen')['files'].tolist(), recorded('data_gen')['normalized'], strict=True)
    )
    assert (
        prepare(
            reference / 'raw', dataset='ntu120', more=('--benchmark', 'xsub', 'xview', 'xsetup')
        )
        == 0
    )
    for benchmark in ('xsub', 'xview', 'xsetup'):
        for split in ('train', 'val'):
            expected = reference / 'gendata' / benchmark
            data, num_frame, names, labels = read_split(tmp_path / 'out' / benchmark, split)
            assert (names, labels) == pickle.loads((expected / f'{split}_label.pkl').read_bytes())
            np.testing.assert_array_equal(num_frame, np.load(expected / f'{split}_num_frame.npy'))
            assert (data.dtype, num_frame.dtype) == (np.float32, np.int64)
            rows = [normalized[name] for name in names]
            np.testing.assert_allclose(data, rows, rtol=0, atol=1e-6)
            if (expected / f'{split}_data_joint.npz').is_file():  # of the larger set only
                np.testing.assert_array_equal(
                    np.load(expected / f'{split}_data_joint.npz')['data'], rows
                )


def test_sorted_and_split_by_performer_and_camera(raw, prepare):
    folder = raw()
    assert prepare(folder) == 0
    assert rows(folder) == rows(folder, 'xview') == RECORDINGS
    train = {
        benchmark: read_split(folder.parent / 'out' / benchmark, 'train')[2]
        for benchmark in ('xsub', 'xview')
    }
    assert [name[8:12] for name in train['xsub']] == ['P001', 'P001', 'P004', 'P002']
    assert [name[4:8] for name in train['xview']] == ['C003', 'C002']
    assert not list(folder.parent.rglob('*.part'))


def test_unusable_files_are_skipped_and_listed(raw, prepare, write_skeleton, capsys):
    folder = raw()
    write_skeleton(folder / 'S001C001P001R001A051.skeleton', [0, 0])
    (folder / 'S001C001P001R001A052.skeleton').write_text('3\n1\n')
    (folder / 'S001C001P001R001A053.skeleton').mkdir()
    (folder / 'S1.skeleton').touch()
    shutil.copy(folder / 'S001C001P001R001A050.skeleton', folder / 'S001C001P001R001A054.txt')
    assert prepare(folder) == 0
    assert rows(folder) == RECORDINGS
    listed = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(f'  {folder}')
    ]
    reasons = {
        'S001C001P001R001A051': 'no body',
        'S001C001P001R001A052': 'line 3: the file ends early',
        'S001C001P001R001A053': 'cannot be read',
        'S1.skeleton': 'not named',
        'A054.txt': 'not named',
    }
    for name, reason in reasons.items():
        assert [line for line in listed if name in line and reason in line], name
    assert len(listed) == len(reasons)


def test_nothing_usable_keeps_earlier_arrays(raw, prepare, write_skeleton, capsys):
    folder = raw()
    prepare(folder)
    before = contents(folder.parent / 'out')
    for path in folder.iterdir():
        write_skeleton(path, [0])
    assert prepare(folder, more=('--overwrite',)) == 1
    assert contents(folder.parent / 'out') == before
    assert 'no usable recording' in capsys.readouterr().err
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(
        cli.InputError, match='no SsssCcccPpppRrrrAaaa.skeleton file in .*: nothing was written'
    ):
        prepare(folder)
    assert contents(folder.parent / 'out') == before


def test_ignored_list_with_headers_endings_and_spaces(raw, prepare, tmp_path):
    folder = raw()
    text = (
        'The following samples have missing skeletons\n\n  S001C001P004R001A060   \r\n'
        'S002C003P003R001A001.skeleton\t\nS009C001P001R001A001\nS001C001P001R002A0\n'
    )
    left = {
        name: frames for name, frames in RECORDINGS.items() if name[-4:] not in ('A060', 'A001')
    }
    (tmp_path / MISSING).write_text(
        text, newline=''
    )  # beside the data folder: found without a flag
    assert prepare(folder) == 0
    assert rows(folder) == left
    (tmp_path / 'elsewhere.txt').write_text('S001C001P001R001A050')
    more = '--ignored_sample_path', str(tmp_path / 'elsewhere.txt'), '--overwrite'
    assert prepare(folder, more=more) == 0
    assert rows(folder) == {
        name: frames for name, frames in RECORDINGS.items() if name[-4:] != 'A050'
    }


def test_side_by_side_equals_merged(raw, prepare, tmp_path):
    merged = raw('merged/raw', RECORDINGS | {'S018C001P001R001A061': 5, 'S032C003P106R002A120': 9})
    folders = raw('60/raw', {}), raw('120/raw', {})
    for path in merged.iterdir():
        shutil.copy2(path, folders[path.stem[:4] in ('S018', 'S032')])
    assert (
        prepare(merged, dataset='ntu120', out='one')
        == prepare(*folders, dataset='ntu120', out='two')
        == 0
    )
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two')
    assert len(contents(tmp_path / 'one')) == 16
    assert prepare(merged, out='sixty') == 0  # NTU-60 is a part of them
    _, frames, names, _ = read_split(tmp_path / 'sixty' / 'xsub', 'train')
    assert len(names) == 4
    assert sorted(frames) == [3, 4, 5, 7]


def test_no_flags_prepares_what_is_there(raw, tmp_path, monkeypatch):
    folder = raw()
    monkeypatch.setattr(ntu_gendata, 'ROOT', tmp_path)
    monkeypatch.setattr(ntu_gendata, 'DEFAULT_FOLDERS', [folder, tmp_path / 'none'])
    assert ntu_gendata.main([]) == 0
    assert {str(path) for path in contents(tmp_path / 'data')} == {
        f'NTU-RGB-D-60-AGCN/{benchmark}/{split}_{kind}'
        for benchmark in ('xsub', 'xview')
        for split in ('train', 'val')
        for kind in ('data_joint.npy', 'num_frame.npy', 'label.pkl')
    } | {
        f'NTU-RGB-D-60-AGCN/{benchmark}/{name}'
        for benchmark in ('xsub', 'xview')
        for name in ('manifest.json', 'recordings.json')
    }
    raw(recordings={'S018C001P001R001A061': 5})
    assert ntu_gendata.main([]) == 0
    assert len(contents(tmp_path / 'data' / 'NTU-RGB-D-120-AGCN')) == 16


def test_long_recordings_are_cut(raw, prepare):
    folder = raw(recordings={'S001C001P001R001A001': 305, 'S001C001P003R001A001': 300})
    assert prepare(folder) == 0
    assert set(rows(folder).values()) == {300}


@pytest.mark.parametrize(
    'command',
    [
        ('data_gen', 'ntu_gendata.py'),
        ('.', 'data_gen/ntu_gendata.py'),
        ('.', '-m', 'data_gen.ntu_gendata'),
    ],
)
def test_runs_inside_its_folder_and_from_the_root(raw, tmp_path, command):
    folder, (place, *command) = raw(), command
    result = subprocess.run(
        [
            sys.executable,
            *command,
            '--dataset',
            'ntu60',
            '--data_path',
            str(folder),
            '--out_folder',
            str(tmp_path / 'out'),
        ],
        cwd=ROOT / place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert rows(folder) == RECORDINGS
    assert 'warning' not in result.stderr


@pytest.mark.parametrize(
    ('flags', 'says'),
    [
        (('--dataset', 'ntu60', '--benchmark', 'xsetup'), 'ntu60 has xsub, xview'),
        (('--dataset', 'ntu61'), 'ntu61'),
        (('--dataset', 'ntu60', '--data_path', '/none'), '/none'),
        (('--benchmrk', 'xsub'), '--benchmrk'),
        (('--dataset', 'ntu60', '-j', '0'), '--workers'),
    ],
    ids=lambda value: value[-1],
)
def test_a_mistake_is_one_line(raw, tmp_path, capsys, flags, says):
    folder = raw()
    folder.with_name(MISSING).unlink()  # its warning would be a second line
    arguments = ['--data_path', str(folder), '--out_folder', str(tmp_path / 'out'), *flags]
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: ntu_gendata.main(arguments))
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert line.startswith('error: ')
    assert says in line
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'text',
    [
        'S001C001P004R001A060',
        's001c001p004r001a060.SKELETON',
        'path/to/S001C001P004R001A060.skeleton,missing',
        'header\r\n1 S001C001P004R001A060 2\r\n',
    ],
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-be'])
@pytest.mark.parametrize('name', [MISSING, f'NTU_RGBD_{MISSING}', f'NTU_RGBD120_{MISSING}'])
@pytest.mark.parametrize('inside', [False, True])
def test_names_of_missing_skeletons_are_found_in_any_text(raw, text, encoding, name, inside):
    folder = raw()
    (folder.parent / MISSING).unlink()
    ((folder if inside else folder.parent) / name).write_text(text, encoding=encoding)
    recordings, stray = ntu_gendata.find_recordings([folder])
    assert ntu_gendata.read_ignored(None, [folder], recordings.keys()) == {
        ntu_gendata.Name(1, 1, 4, 1, 60)
    }
    assert not stray


def test_a_list_that_names_nothing_or_is_not_there(raw, tmp_path, capsys, mistake):
    says_of = {
        'no names': 'names no recording',
        '': 'names no recording',
        'S002C001P001R001A009': 'but none that is',
    }
    for text, says in says_of.items():
        (tmp_path / 'list.txt').write_text(text)
        present = {ntu_gendata.Name(1, 1, 4, 1, 60)}
        assert ntu_gendata.read_ignored(tmp_path / 'list.txt', [], present) == set()
        (line,) = capsys.readouterr().err.splitlines()
        assert f'{tmp_path}/list.txt' in line
        assert says in line
    flags = [
        '--dataset',
        'ntu60',
        '--data_path',
        raw(),
        '--ignored_sample_path',
        tmp_path / 'none.txt',
    ]
    assert 'none.txt: no such file' in mistake(ntu_gendata.main, flags)


def test_no_list_of_missing_skeletons_is_warned_of(raw, prepare, capsys):
    folder = raw()
    folder.with_name(MISSING).unlink()
    assert prepare(folder) == 0
    assert f'warning: {folder.with_name(MISSING)}' in capsys.readouterr().err


def test_both_official_lists_count(raw, prepare):
    folder = raw()
    (folder.parent / f'NTU_RGBD_{MISSING}').write_text('S001C001P004R001A060')
    (folder.parent / f'NTU_RGBD120_{MISSING}').write_text('S002C003P003R001A001')
    assert prepare(folder) == 0
    assert rows(folder).keys() == RECORDINGS.keys() - {
        'S001C001P004R001A060',
        'S002C003P003R001A001',
    }


def test_a_list_of_all_recordings(raw, tmp_path, mistake):
    folder = raw()
    (tmp_path / MISSING).write_text(' '.join(RECORDINGS))
    assert 'all 6 recordings are listed' in mistake(ntu_gendata.main, ['--data_path', folder])


def test_a_folder_too_high_or_an_archive(raw, tmp_path, mistake):
    folder = raw('disk/raw')
    assert f'use --data_path {folder}' in mistake(
        ntu_gendata.main, ['--data_path', tmp_path / 'disk']
    )
    (tmp_path / 'other').mkdir()
    archive = tmp_path / 'other' / 'nturgbd_skeletons_s001_to_s017.zip'
    archive.touch()
    assert f'unpack {archive} first' in mistake(
        ntu_gendata.main, ['--data_path', tmp_path / 'other']
    )
    assert f'{archive}: unpack it first' in mistake(ntu_gendata.main, ['--data_path', archive])


def test_many_files_with_other_names_are_one_line(raw, prepare, capsys):
    folder = raw()
    for number in range(23):
        (folder / f'{number}.skeleton').touch()
    assert prepare(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum('not named' in line for line in lines) == 1
    example = f'such as {folder / "0.skeleton"}: skipped, not named SsssCcccPpppRrrrAaaa.skeleton'
    assert lines[0] == f'  23 files, {example}'


def test_twenty_skipped_files_of_a_kind_are_listed(raw, prepare, write_skeleton, capsys):
    folder = raw()
    for number in range(1, 24):
        (folder / f'S001C001P003R001A{number:03d}.skeleton').write_text(
            '3\n' + '0\n' * (number % 2)
        )
    write_skeleton(folder / 'S001C001P003R001A050.skeleton', [0])
    assert prepare(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum('the file ends early' in line for line in lines) == 20
    assert '  … and 3 more of this kind' in lines
    assert any('no body' in line for line in lines)
