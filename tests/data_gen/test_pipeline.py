"""Preparation that is stopped, doubled, out of space, or asked again: never a loss, never another byte."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from data_gen import cli, ntu_gendata, pipeline, workers, writer

COMMAND = [sys.executable, Path(ntu_gendata.__file__), '--dataset', 'ntu60', '--benchmark', 'xsub', '-j', '2']


@pytest.fixture(scope='module')
def raw(tmp_path_factory, write_skeleton):
    """A folder of 40 recordings, two of them unusable."""
    folder = tmp_path_factory.mktemp('raw') / 'recordings'
    folder.mkdir()
    folder.with_name('samples_with_missing_skeletons.txt').touch()
    for number in range(40):
        path = folder / f'S001C001P{number % 8 + 1:03d}R{number // 8:03d}A{number % 5 + 1:03d}.skeleton'
        write_skeleton(path, [0] * 5 if number in (3, 20) else [1 + number % 2] * (20 + number), seed=number)
    return folder


def flags(raw, out, *more):
    return ['--data_path', str(raw), '--out_folder', str(out), *more]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*')
            if path.is_file() and path.name != '.lock'}


@pytest.fixture(scope='module', params=['padded', 'trimmed'])
def undisturbed(request, raw, tmp_path_factory):
    """(layout, contents) of a run that nothing stopped."""
    out = tmp_path_factory.mktemp('undisturbed')
    subprocess.run([*COMMAND, *flags(raw, out, '--layout', request.param)], check=True, capture_output=True)
    return request.param, contents(out)


def test_killed_at_any_moment_and_run_again(raw, undisturbed, tmp_path):
    """kill -9, again and again, each run going on where the last one fell; then the bytes of an undisturbed run."""
    layout, expected = undisturbed
    rng = random.Random(0)
    journal = tmp_path / 'out/xsub/val_journal.jsonl'
    seen = []
    while not (tmp_path / 'out/xsub/manifest.json').is_file():
        run = subprocess.Popen([*COMMAND, *flags(raw, tmp_path / 'out', '--layout', layout)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until, more = time.monotonic() + 20, rng.randrange(2, 6)
        start = seen[-1] if seen else 0
        while run.poll() is None and time.monotonic() < until and lines(journal) < start + more:
            time.sleep(0.001)
        run.send_signal(signal.SIGKILL)
        run.wait()
        seen.append(lines(journal))
    killed = seen[:-1]
    assert len(killed) > 1
    assert killed == sorted(set(killed))  # each went on where the one before fell
    subprocess.run([*COMMAND, *flags(raw, tmp_path / 'out', '--layout', layout)], check=True)
    assert contents(tmp_path / 'out') == expected


def lines(path):
    return path.read_bytes().count(b'\n') if path.is_file() else 0


@pytest.mark.parametrize('stop', ['finish', 'clear'])
@pytest.mark.parametrize('part', ['train', 'val'])
def test_stopped_on_the_last_yards(raw, undisturbed, tmp_path, monkeypatch, part, stop):
    """Between the parts' last files, and between the manifest and the journals."""
    layout, expected = undisturbed
    original = getattr(writer.PartWriter, stop)

    def fall(self):
        if self.part == part:
            raise SystemError('stopped')
        return original(self)
    with monkeypatch.context() as patch:
        patch.setattr(writer.PartWriter, stop, fall)
        with pytest.raises(SystemError):
            ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout)])
    assert ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout)]) == 0
    assert contents(tmp_path / 'out') == expected


def test_a_full_disk_loses_nothing(raw, undisturbed, tmp_path, monkeypatch):
    layout, expected = undisturbed
    original, left = writer.PartWriter.append, [9]

    def append(self, record, data):
        left[0] -= 1
        if left[0] == 0:
            self.file.write(data[:1000])
            raise OSError(28, 'No space left on device')
        original(self, record, data)
    arguments = [*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout)]
    with monkeypatch.context() as patch:
        patch.setattr(writer.PartWriter, 'append', append)
        with pytest.raises(cli.InputError, match='No space left .* goes on from here'):
            ntu_gendata.main(arguments)
    assert ntu_gendata.main(arguments) == 0
    assert contents(tmp_path / 'out') == expected


def test_too_little_space_is_said_before_the_work(raw, tmp_path, monkeypatch, mistake):
    monkeypatch.setattr(pipeline.shutil, 'disk_usage', lambda folder: namedtuple('usage', 'free')(1000))
    line = mistake(ntu_gendata.main, [*COMMAND[2:], *flags(raw, tmp_path / 'out')])
    assert '0.0 GB are free' in line
    assert not list((tmp_path / 'out').rglob('*.npy'))


def test_a_second_run_into_the_same_folder_stops(raw, tmp_path, monkeypatch):
    with pipeline.alone({tmp_path / 'out/xsub'}):
        done = subprocess.run([*COMMAND, *flags(raw, tmp_path / 'out')], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'another run is preparing data there' in done.stderr
    assert ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out')]) == 0


def test_finished_is_not_redone_unless_asked(raw, tmp_path, capsys):
    arguments = [*COMMAND[2:], *flags(raw, tmp_path / 'out')]
    assert ntu_gendata.main(arguments) == 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*.npy')}
    before = contents(tmp_path / 'out')
    assert ntu_gendata.main(arguments) == 0
    assert 'finished already' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert ntu_gendata.main([*arguments, '--overwrite']) == 0
    assert all(path.stat().st_mtime_ns > when for path, when in made.items())
    assert contents(tmp_path / 'out') == before


def test_other_arrays_are_left_alone(raw, tmp_path, padded_arrays, mistake):
    padded_arrays(tmp_path / 'out/xsub')
    before = contents(tmp_path / 'out')
    line = mistake(ntu_gendata.main, [*COMMAND[2:], *flags(raw, tmp_path / 'out')])
    assert 'other arrays are there already' in line
    assert contents(tmp_path / 'out') == before


def test_other_recordings_begin_anew(raw, undisturbed, tmp_path):
    """What an earlier run of another plan left is not gone on with."""
    layout, expected = undisturbed
    shutil.copytree(raw.parent, tmp_path / 'raw')
    extra = tmp_path / 'raw/recordings/S001C001P001R009A001.skeleton'
    shutil.copy(min(raw.iterdir()), extra)
    run = subprocess.Popen([*COMMAND, *flags(extra.parent, tmp_path / 'out', '--layout', layout)],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None and lines(tmp_path / 'out/xsub/train_journal.jsonl') < 4:
        time.sleep(0.001)
    run.kill()
    run.wait()
    extra.unlink()
    assert ntu_gendata.main([*COMMAND[2:], *flags(extra.parent, tmp_path / 'out', '--layout', layout)]) == 0
    assert contents(tmp_path / 'out') == expected


def test_the_manifest_says_what_there_is(raw, tmp_path, capsys):
    ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out')])
    made = json.loads((tmp_path / 'out/xsub/manifest.json').read_text())
    assert (made['dataset'], made['benchmark'], made['layout']) == ('ntu60', 'xsub', 'padded')
    assert {part: entry['clips'] for part, entry in made['parts'].items()} == {'train': 23, 'val': 15}
    assert sum(made['parts']['train']['classes'].values()) == 23
    assert made['parts']['val']['frames']['max'] <= 60
    assert sorted(made['skipped'].values()) == ['no body in any frame'] * 2
    assert 'NOT the official counts: 40091 + 16487; no setup 2-17, no action 6-60' in capsys.readouterr().out


def test_workers_end_with_a_killed_run(raw, tmp_path):
    run = subprocess.Popen([*COMMAND, *flags(raw, tmp_path / 'out')], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    children = []
    while run.poll() is None and len(children) < 2:
        children = Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split()
    run.kill()
    run.wait()
    until = time.monotonic() + 5
    while time.monotonic() < until and any(alive(pid) for pid in children):
        time.sleep(0.05)
    assert not any(alive(pid) for pid in children)


def test_overwriting_does_not_go_on_with_an_older_try(raw, tmp_path):
    """A mended file is read again, and what an interrupted try left goes."""
    shutil.copytree(raw.parent, tmp_path / 'raw')
    folder = tmp_path / 'raw/recordings'
    bad = folder / 'S001C001P004R000A004.skeleton'
    arguments = [*COMMAND[2:], *flags(folder, tmp_path / 'out')]
    stopped = writer.PartWriter.finish
    writer.PartWriter.finish = lambda self: 1 / 0
    try:
        with pytest.raises(ZeroDivisionError):
            ntu_gendata.main(arguments)
    finally:
        writer.PartWriter.finish = stopped
    bad.write_text(max(raw.iterdir()).read_text())
    ntu_gendata.main([*arguments, '--layout', 'trimmed', '--overwrite'])
    names = [entry['clips'] for entry in
             json.loads((tmp_path / 'out/xsub/manifest.json').read_text())['parts'].values()]
    assert sum(names) == 39
    assert not list((tmp_path / 'out').rglob('*.part'))


@pytest.mark.parametrize('names', [['S018C001P001R001A061'], ['S001C001P001R001A001']])
def test_only_the_data_sets_that_are_there(raw, tmp_path, names, write_skeleton, monkeypatch, mistake):
    folder = tmp_path / 'some/recordings'
    folder.mkdir(parents=True)
    for name in names:
        write_skeleton(folder / f'{name}.skeleton', [1] * 5)
    monkeypatch.setattr(ntu_gendata, 'ROOT', tmp_path)
    ntu_gendata.main(['--data_path', str(folder), '-j', '1'])
    sixty = names[0].startswith('S001')
    assert [path.name for path in (tmp_path / 'data').iterdir()] == [f'NTU-RGB-D-{"60" if sixty else "120"}-AGCN']
    other = 'xsetup' if sixty else 'nonsense'
    assert f'--benchmark {other}' in mistake(ntu_gendata.main, ['--data_path', folder, '--benchmark', other])


def test_a_file_system_without_locks_is_no_other_run(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(38, 'Function not implemented')
    monkeypatch.setattr(fcntl, 'flock', refuse)
    with pipeline.alone({tmp_path}):
        pass


def test_a_reader_that_fails_skips_its_file():
    def fail(path, names):
        raise RuntimeError('unforeseen')
    results, = workers.prepare_lot([workers.Job(fail, 'file', ('a', 'b'))], 'padded')
    assert results == [({'reason': 'cannot be read: RuntimeError: unforeseen'}, None)] * 2


def alive(pid):
    try:
        os.kill(int(pid), 0)
        return Path(f'/proc/{pid}/stat').read_text().split()[2] != 'Z'
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_preparing_again_in_the_other_layout_leaves_one(raw, tmp_path):
    for layout, expected in (('padded', 'data_joint'), ('trimmed', 'frame_joint'), ('padded', 'data_joint')):
        ntu_gendata.main([*COMMAND[2:], *flags(raw, tmp_path / 'out', '--layout', layout, '--overwrite')])
        assert {path.name for path in (tmp_path / 'out/xsub').glob('*_joint.npy')} == {
            f'{part}_{expected}.npy' for part in ('train', 'val')}
        assert (tmp_path / 'out/xsub/val_trimmed.npz').is_file() == (layout == 'trimmed')
