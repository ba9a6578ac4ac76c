"""Preparation that is killed, run twice at once, out of disk space, or repeated: the arrays are
always the same.
"""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

import pretrain
from data_gen import interrupts, ntu_gendata, raw_files, workers, writer
from tools import options
from tools.common import cli
from tools.common.locks import folder_lock

COMMAND = [
    sys.executable,
    Path(ntu_gendata.__file__),
    '--dataset',
    'ntu60',
    '--benchmark',
    'xsub',
    '-j',
    '2',
]


@pytest.fixture(scope='module')
def raw(tmp_path_factory, write_skeleton):
    """A folder of 40 recordings, two of them unusable."""
    folder = tmp_path_factory.mktemp('raw') / 'recordings'
    folder.mkdir()
    folder.with_name('samples_with_missing_skeletons.txt').touch()
    for number in range(40):
        path = (
            folder
            / f'S001C001P{number % 8 + 1:03d}R{number // 8:03d}A{number % 5 + 1:03d}.skeleton'
        )
        write_skeleton(
            path, [0] * 5 if number in (3, 20) else [1 + number % 2] * (20 + number), seed=number
        )
    return folder


def flags(raw, out, *more):
    return ['--data_path', str(raw), '--out_folder', str(out), *more]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.lock'
    }


@pytest.fixture(scope='module', params=['padded', 'trimmed'])
def undisturbed(request, raw, tmp_path_factory):
    """(layout, contents) of a run that nothing stopped."""
    out = tmp_path_factory.mktemp('undisturbed')
    subprocess.run(
        [*COMMAND, *flags(raw, out, '--layout', request.param)], check=True, capture_output=True
    )
    return request.param, contents(out)


def test_killed_at_any_moment_and_run_again(raw, undisturbed, tmp_path):
    """kill -9, again and again, each run resuming the one before; in the end the bytes of an
    undisturbed run.
    """
    layout, expected = undisturbed
    rng = random.Random(0)
    journal = tmp_path / 'out/xsub/val_journal.jsonl'
    seen = []
    while not (tmp_path / 'out/xsub/manifest.json').is_file():
        run = subprocess.Popen(
            [*COMMAND, *flags(raw, tmp_path / 'out', '--layout', layout)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until, more = time.monotonic() + 20, rng.randrange(2, 6)
        start = seen[-1] if seen else 0
        while run.poll() is None and time.monotonic() < until and lines(journal) < start + more:
            time.sleep(0.001)
        run.send_signal(signal.SIGKILL)
        run.wait()
        seen.append(lines(journal))
    killed = seen[:-1]
    assert len(killed) > 1
    assert killed == sorted(set(killed))  # each resumed the one before
    subprocess.run([*COMMAND, *flags(raw, tmp_path / 'out', '--layout', layout)], check=True)
    assert contents(tmp_path / 'out') == expected


def lines(path):
    return path.read_bytes().count(b'\n') if path.is_file() else 0


@pytest.mark.parametrize('stop', ['finish', 'clean_up'])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_stopped_just_before_the_end(raw, undisturbed, tmp_path, monkeypatch, split, stop):
    """Between the last files of the splits, and between writing the manifest and removing the
    journals.
    """
    layout, expected = undisturbed
    original = getattr(writer.SplitWriter, stop)

    def fall(self):
        if self.split == split:
            raise SystemError('stopped')
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(writer.SplitWriter, stop, fall)
        with pytest.raises(SystemError):
            ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout)])
    assert ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout)]) == 0
    assert contents(tmp_path / 'out') == expected


def test_a_full_disk_loses_nothing(raw, undisturbed, tmp_path, monkeypatch):
    layout, expected = undisturbed
    original, left = writer.SplitWriter.append, [9]

    def append(self, record, data):
        left[0] -= 1
        if left[0] == 0:
            self.file.write(data[:1000])
            raise OSError(28, 'No space left on device')
        original(self, record, data)

    arguments = [*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout)]
    with monkeypatch.context() as patch:
        patch.setattr(writer.SplitWriter, 'append', append)
        with pytest.raises(
            cli.InputError, match='No space left .* run the same command again to resume'
        ):
            ntu_gendata.main(arguments)
    assert ntu_gendata.main(arguments) == 0
    assert contents(tmp_path / 'out') == expected


def test_too_little_space_is_reported_before_the_work(raw, tmp_path, monkeypatch, mistake):
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: namedtuple('usage', 'free')(1000))
    line = mistake(ntu_gendata.main, [*COMMAND[2:], *flags(raw, tmp_path / 'out')])
    assert '0.0 GB are free' in line
    assert not list((tmp_path / 'out').rglob('*.npy'))


def test_a_second_run_into_the_same_folder_stops(raw, tmp_path, monkeypatch):
    with folder_lock({tmp_path / 'out/xsub'}):
        done = subprocess.run(
            [*COMMAND, *flags(raw, tmp_path / 'out')], capture_output=True, text=True
        )
    assert done.returncode == 2
    assert 'another run is preparing data there' in done.stderr
    assert ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out')]) == 0


def test_finished_is_not_redone_unless_asked(raw, tmp_path, capsys):
    arguments = [*COMMAND[2:], *flags(raw, tmp_path / 'out')]
    assert ntu_gendata.main(arguments) == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*.npy')}
    before = contents(tmp_path / 'out')
    assert ntu_gendata.main(arguments) == 0
    assert 'finished already' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert ntu_gendata.main([*arguments, '--overwrite']) == 0
    assert all(path.stat().st_mtime_ns > when for path, when in times.items())
    assert contents(tmp_path / 'out') == before


@pytest.mark.parametrize('name', ['NTU-RGB-D-60-AGCN', 'mine'])
def test_the_next_command_finds_the_arrays(raw, tmp_path, capsys, name):
    """Also when they are finished already; a folder of another name must be renamed first."""
    folder = tmp_path / 'my data' / name
    arguments = [*COMMAND[2:], '--data-path', str(raw), '--out-folder', str(folder)]
    assert ntu_gendata.main(arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    for line in shown:
        if line.startswith('to pre-train, rename '):
            assert line == f'to pre-train, rename {folder} to NTU-RGB-D-60-AGCN'
            folder = folder.rename(folder.with_name(line.rpartition(' ')[2]))
    (command,) = [line for line in shown if line.startswith('next: ')]
    script, dataset, protocol, *flags = shlex.split(command.removeprefix('next: '))
    assert (Path(pretrain.__file__).parent / script).is_file()
    args = pretrain.parse_args(['--pre-dataset', dataset, '--protocol', protocol, *flags])
    assert options.data_of(args).folder == folder / 'xsub'
    assert ntu_gendata.main([*arguments[:-1], str(folder)]) == 0
    assert command in capsys.readouterr().out


def edit(path):
    path.write_text(path.read_text().replace('0.', '1.', 1))


def test_changed_recordings_are_named(raw, tmp_path, capsys, mistake):
    """Whatever a file's time says; also one that was unusable. A new time alone changes nothing."""
    shutil.copytree(raw.parent, tmp_path / 'raw')
    files = sorted((tmp_path / 'raw/recordings').iterdir())
    arguments = [*COMMAND[2:], *flags(files[0].parent, tmp_path / 'out')]
    assert ntu_gendata.main(arguments) == 0
    skipped = json.loads((tmp_path / 'out/xsub/manifest.json').read_text())['skipped']
    before = contents(tmp_path / 'out')
    os.utime(files[2])
    assert ntu_gendata.main(arguments) == 0
    assert '(--overwrite prepares it again)' in capsys.readouterr().out

    edit(files[1])
    repaired = files[0].with_name(min(skipped))
    shutil.copy(files[2], repaired)
    line = mistake(ntu_gendata.main, arguments)
    assert '2 recordings changed since these arrays were prepared: ' in line
    assert str(files[1]) in line and str(repaired) in line and str(files[2]) not in line
    assert contents(tmp_path / 'out') == before
    assert ntu_gendata.main([*arguments, '--overwrite']) == 0
    assert ntu_gendata.main(arguments) == 0
    after = contents(tmp_path / 'out')
    assert after['xsub/manifest.json'] != before['xsub/manifest.json']
    assert repaired.name not in json.loads(after['xsub/manifest.json'])['skipped']


def test_a_folder_of_files_is_one_recording(tmp_path):
    (tmp_path / 'frame1.json').write_text('{}')
    described = raw_files.describe(str(tmp_path))
    assert not raw_files.has_changed(str(tmp_path), *described)
    (tmp_path / 'frame2.json').write_text('{}')
    assert raw_files.has_changed(str(tmp_path), *described)


def test_a_folder_of_before_says_what_it_cannot_know(raw, tmp_path, capsys):
    arguments = [*COMMAND[2:], *flags(raw, tmp_path / 'out')]
    assert ntu_gendata.main(arguments) == 0
    (tmp_path / 'out/xsub' / raw_files.NAME).unlink()
    assert ntu_gendata.main(arguments) == 0
    assert 'if recordings have changed, --overwrite' in capsys.readouterr().out


def test_other_arrays_are_not_touched(raw, tmp_path, padded_arrays, mistake):
    padded_arrays(tmp_path / 'out/xsub')
    before = contents(tmp_path / 'out')
    line = mistake(ntu_gendata.main, [*COMMAND[2:], *flags(raw, tmp_path / 'out')])
    assert 'other arrays are there already' in line
    assert contents(tmp_path / 'out') == before


def test_other_recordings_start_anew(raw, undisturbed, tmp_path):
    """What an earlier run of another plan left is not resumed."""
    layout, expected = undisturbed
    shutil.copytree(raw.parent, tmp_path / 'raw')
    extra = tmp_path / 'raw/recordings/S001C001P001R009A001.skeleton'
    shutil.copy(min(raw.iterdir()), extra)
    run = subprocess.Popen(
        [*COMMAND, *flags(extra.parent, tmp_path / 'out', '--layout', layout)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and lines(tmp_path / 'out/xsub/train_journal.jsonl') < 4:
        time.sleep(0.001)
    run.kill()
    run.wait()
    extra.unlink()
    assert (
        ntu_gendata.main([*COMMAND[2:], *flags(extra.parent, tmp_path / 'out', '--layout', layout)])
        == 0
    )
    assert contents(tmp_path / 'out') == expected


def test_the_manifest_says_what_there_is(raw, tmp_path, capsys):
    ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out')])
    manifest = json.loads((tmp_path / 'out/xsub/manifest.json').read_text())
    assert list(manifest) == ['dataset', 'benchmark', 'layout', 'parts', 'skipped', 'version']
    assert (manifest['dataset'], manifest['benchmark'], manifest['layout']) == (
        'ntu60',
        'xsub',
        'padded',
    )
    assert {split: entry['clips'] for split, entry in manifest['parts'].items()} == {
        'train': 23,
        'val': 15,
    }
    assert list(manifest['parts']['train']) == ['clips', 'classes', 'hash', 'frames', 'plan']
    assert sum(manifest['parts']['train']['classes'].values()) == 23
    assert manifest['parts']['val']['frames']['max'] <= 60
    assert sorted(manifest['skipped'].values()) == ['no body in any frame'] * 2
    assert (
        'not the official counts: 40091 + 16487; no setup 2-17, no action 6-60'
        in capsys.readouterr().out
    )


def test_ctrl_c_says_how_to_resume(raw, undisturbed, tmp_path):
    """As a terminal sends it, to the workers too, while one of them waits for the last file: a
    pipe.
    """
    layout, expected = undisturbed
    shutil.copytree(raw.parent, tmp_path / 'raw')
    last = max((tmp_path / 'raw/recordings').iterdir())
    content = last.read_bytes()
    last.unlink()
    os.mkfifo(last)
    command = [*COMMAND, *flags(last.parent, tmp_path / 'out', '--layout', layout)]
    run = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with open(last, 'wb') as pipe:  # waits until a worker has opened it
        os.killpg(run.pid, signal.SIGINT)
        pipe.write(content)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert 'stopped; run the same command again to resume' in errors
    assert 'Traceback' not in errors
    last.unlink()
    shutil.copy2(raw / last.name, last)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 'resuming an earlier run' in done.stdout
    assert contents(tmp_path / 'out') == expected


def test_a_killed_worker_says_how_to_resume():
    with (
        pytest.raises(cli.InputError, match='a worker process was killed .* again to resume'),
        interrupts.resumable(),
    ):
        list(workers.in_order([workers.Job(kill_itself, 'file', ('a',))], 'padded', 1))


def kill_itself(path):
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_end_with_a_killed_run(raw, tmp_path):
    run = subprocess.Popen(
        [*COMMAND, *flags(raw, tmp_path / 'out')],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children = []
    while run.poll() is None and len(children) < 2:
        children = Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split()
    run.kill()
    run.wait()
    until = time.monotonic() + 5
    while time.monotonic() < until and any(alive(pid) for pid in children):
        time.sleep(0.05)
    assert not any(alive(pid) for pid in children)


def test_overwriting_does_not_resume_an_older_run(raw, tmp_path):
    """A repaired file is read again, and what the older run left is removed."""
    shutil.copytree(raw.parent, tmp_path / 'raw')
    folder = tmp_path / 'raw/recordings'
    bad = folder / 'S001C001P004R000A004.skeleton'
    arguments = [*COMMAND[2:], *flags(folder, tmp_path / 'out')]
    stopped = writer.SplitWriter.finish
    writer.SplitWriter.finish = lambda self: 1 / 0
    try:
        with pytest.raises(ZeroDivisionError):
            ntu_gendata.main(arguments)
    finally:
        writer.SplitWriter.finish = stopped
    bad.write_text(max(raw.iterdir()).read_text())
    ntu_gendata.main([*arguments, '--layout', 'trimmed', '--overwrite'])
    names = [
        entry['clips']
        for entry in json.loads((tmp_path / 'out/xsub/manifest.json').read_text())['parts'].values()
    ]
    assert sum(names) == 39
    assert not list((tmp_path / 'out').rglob('*.part'))


@pytest.mark.parametrize('names', [['S018C001P001R001A061'], ['S001C001P001R001A001']])
def test_only_the_data_sets_that_are_there(
    raw, tmp_path, names, write_skeleton, monkeypatch, mistake
):
    folder = tmp_path / 'some/recordings'
    folder.mkdir(parents=True)
    for name in names:
        write_skeleton(folder / f'{name}.skeleton', [1] * 5)
    monkeypatch.setattr(ntu_gendata, 'ROOT', tmp_path)
    ntu_gendata.main(['--data_path', str(folder), '-j', '1'])
    sixty = names[0].startswith('S001')
    assert [path.name for path in (tmp_path / 'data').iterdir()] == [
        f'NTU-RGB-D-{"60" if sixty else "120"}-AGCN'
    ]
    other = 'xsetup' if sixty else 'nonsense'
    assert f'--benchmark {other}' in mistake(
        ntu_gendata.main, ['--data_path', folder, '--benchmark', other]
    )


def test_a_file_system_without_locks_is_no_other_run(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    with folder_lock({tmp_path}):
        pass


def test_a_reader_that_fails_skips_its_file():
    def fail(path):
        raise RuntimeError('unforeseen')

    (results,) = workers.prepare_chunk([workers.Job(fail, 'file', ('a', 'b'))], 'padded')
    assert results == [({'reason': 'cannot be read: RuntimeError: unforeseen'}, None)] * 2


def alive(pid):
    try:
        os.kill(int(pid), 0)
        return Path(f'/proc/{pid}/stat').read_text().split()[2] != 'Z'
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_preparing_again_in_the_other_layout_leaves_one(raw, tmp_path):
    for layout, expected in (
        ('padded', 'data_joint'),
        ('trimmed', 'frame_joint'),
        ('padded', 'data_joint'),
    ):
        ntu_gendata.main(
            [*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout, '--overwrite')]
        )
        assert {path.name for path in (tmp_path / 'out/xsub').glob('*_joint.npy')} == {
            f'{split}_{expected}.npy' for split in ('train', 'val')
        }


def test_folders_of_version_1_count_as_finished(tmp_path):
    """Their manifests hold this hash of names, labels, details and version."""
    planned = writer.SplitWriter(
        tmp_path,
        'val',
        ['S001C001P003R001A002.skeleton', 'S002C003P006R002A060.skeleton'],
        [1, 59],
        'padded',
        {'axes': 'kinect'},
    )
    assert planned.plan == '5f73a0b41e118315a92f159764fe686fd6173036591ad23e32d14fcc1c3165a2'


@pytest.mark.parametrize('layout', ['padded', 'trimmed'])
def test_an_unfinished_run_of_version_1_is_not_resumed(raw, tmp_path, layout):
    """Its journal told of more frames than are kept now."""
    arguments = [*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout)]
    assert ntu_gendata.main(arguments) == 0
    expected, folder = contents(tmp_path / 'out'), tmp_path / 'out/xsub'
    for split, entry in json.loads((folder / 'manifest.json').read_text())['parts'].items():
        array = next(folder.glob(f'{split}_*_joint.npy'))
        array.rename(array.with_name(array.name + '.part'))
        (folder / f'{split}_journal.jsonl').write_text(
            f'{entry["plan"]} {layout}\n'
            + '{"frames": 20, "stored": 300, "period": 300, "digest": ""}\n' * 3
        )
    (folder / 'manifest.json').unlink()
    assert ntu_gendata.main(arguments) == 0
    assert contents(tmp_path / 'out') == expected


def test_nothing_usable_keeps_an_earlier_empty_split(raw, tmp_path, write_skeleton):
    folder = tmp_path / 'raw/recordings'
    folder.mkdir(parents=True)
    write_skeleton(folder / 'S001C001P001R001A001.skeleton', [1] * 5)
    assert ntu_gendata.main([*COMMAND[2:], *flags(folder, tmp_path / 'out')]) == 0
    before = contents(tmp_path / 'out')
    assert 'xsub/val_data_joint.npy' in before
    write_skeleton(folder / 'S001C001P001R001A001.skeleton', [0])
    assert ntu_gendata.main([*COMMAND[2:], *flags(folder, tmp_path / 'out', '--overwrite')]) == 1
    assert contents(tmp_path / 'out') == before
