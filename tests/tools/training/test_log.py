"""log.jsonl and TensorBoard: nothing in them ends a run, and nothing readable is lost."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pretrain
from tools.training import log
from tools.training.log import RunLog, read_log

HEAD = b'{"command": ["a"]}\n'
ZERO, ONE, TWO = (b'{"epoch": %d, "total": 1.5}\n' % epoch for epoch in range(3))


def start(folder, first_epoch):
    return RunLog(folder, {'lr': 1}, torch.device('cpu'), first_epoch)


def epochs(folder):
    lines = (folder / 'log.jsonl').read_text().splitlines()
    return [line['epoch'] for line in map(json.loads, lines) if 'epoch' in line]


DAMAGED = {
    'an empty line': (HEAD + ZERO + b'\n' + ONE, 1, [0, 1]),
    'NULs': (HEAD + ZERO + ONE + bytes(4096), 1, [0, 1]),
    'a torn line in the middle': (HEAD + ZERO[:11] + b'\n' + ONE, 1, [1]),
    'a torn last line': (HEAD + ZERO + ONE + TWO[:-5], 1, [0, 1]),
    'two lines in one': (HEAD + ZERO[:-1] + ONE + ONE, 1, [1]),
    'a note': (HEAD + b'# lowered the learning rate\n' + ZERO + ONE, 1, [0, 1]),
    'other JSON': (HEAD + b'[1]\n3\nnull\n"epoch"\n{"epoch": "1"}\n' + ZERO + ONE, 5, [0, 1]),
    'not UTF-8': (HEAD + b'\xff\xfe\x80\n' + ZERO + b'{"epoch": "\xe9"}\n' + ONE, 2, [0, 1]),
    'deeply nested': (HEAD + 100_000 * b'[' + b'\n' + ZERO + ONE, 1, [0, 1]),
    'nothing readable': (bytes(100), 1, []),
}


@pytest.mark.parametrize(('content', 'left_out', 'kept'), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_log_is_read_as_far_as_possible(tmp_path, capsys, content, left_out, kept):
    (tmp_path / 'log.jsonl').write_bytes(content)
    with start(tmp_path, 2) as run:
        run.epoch(2, {'total': 1})
    assert epochs(tmp_path) == [*kept, 2]
    assert (tmp_path / 'log.jsonl.damaged').read_bytes() == content
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f'{left_out} line{"s" * (left_out > 1)} left out that cannot be read' in said[0]
    assert read_log(tmp_path / 'log.jsonl')[1] == 0


@pytest.mark.parametrize(
    ('content', 'kept'),
    [
        (HEAD + ZERO + ONE + TWO, [0, 1]),  # the run was killed before its checkpoint
        (HEAD + ZERO + ONE[:-1], [0, 1]),  # an editor left out the end of the last line
        ((HEAD + ZERO + ONE).replace(b'\n', b'\r\n'), [0, 1]),
        (b'', []),
    ],
)
def test_a_good_log_goes_on_without_a_word(tmp_path, capsys, content, kept):
    (tmp_path / 'log.jsonl').write_bytes(content)
    with start(tmp_path, 2) as run:
        run.epoch(2, {'total': 1})
    assert epochs(tmp_path) == [*kept, 2]
    assert not (tmp_path / 'log.jsonl.damaged').exists()
    assert capsys.readouterr().err == ''


def test_a_second_damaged_log_is_kept_beside_the_first(tmp_path):
    for content in (b'first\n', b'second\n'):
        (tmp_path / 'log.jsonl').write_bytes(content)
        start(tmp_path, 1).__exit__()
    assert (tmp_path / 'log.jsonl.damaged').read_bytes() == b'first\nsecond\n'


def test_what_is_removed_during_a_run_is_made_anew(tmp_path, capsys):
    with start(tmp_path, 0) as run:
        run.epoch(0, {'total': 1})
        shutil.rmtree(tmp_path / 'tensorboard')
        (tmp_path / 'log.jsonl').unlink()
        run.epoch(1, {'total': 2})
        run.epoch(2, {'total': 3})
    assert epochs(tmp_path) == [1, 2]
    events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload().Scalars('total')
    assert [event.step for event in events] == [1, 2]
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('name', ['log.jsonl', 'tensorboard/'])
def test_an_error_is_printed_once(tmp_path, capsys, monkeypatch, name):
    with start(tmp_path, 0) as run:

        def fail(*_):
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(run, 'write' if name == 'log.jsonl' else 'write_board', fail)
        for epoch in range(3):
            run.epoch(epoch, {'total': 1})
    done = capsys.readouterr()
    assert done.out.count('total 1') == 3
    assert done.err.count(f'{name} is not complete, training goes on') == 1
    assert len(done.err.splitlines()) == 1
    assert epochs(tmp_path) == ([] if name == 'log.jsonl' else [0, 1, 2])


def test_a_file_in_the_place_of_tensorboards_folder(tmp_path, capsys):
    (tmp_path / 'tensorboard').touch()
    with start(tmp_path, 0) as run:
        run.epoch(0, {'total': 1})
    assert 'tensorboard/ is not complete' in capsys.readouterr().err
    assert epochs(tmp_path) == [0]


def test_a_run_resumes_beside_a_damaged_log(tmp_path, padded_arrays, capsys):
    padded_arrays(tmp_path / 'data/NTU-RGB-D-60-AGCN/xsub')

    def train(epochs):
        flags = ['--data-root', tmp_path / 'data', '--checkpoint-path', tmp_path / 'run']
        flags += ['--hidden-size', 8, '--batch-size', 4, '--device', 'cpu', '--resume', 'auto']
        pretrain.main([*map(str, flags), '--epochs', str(epochs)])

    train(2)
    path = tmp_path / 'run/log.jsonl'
    path.write_bytes(path.read_bytes().replace(b'{"epoch": 0', b'\0\0\0'))
    train(3)
    assert epochs(tmp_path / 'run') == [1, 2]
    assert '1 line left out that cannot be read' in capsys.readouterr().err
    assert Path(path.parent, log.LOG_FILES[2]).is_file()


def test_tensorboard_reads_the_files_of_one_second_in_their_order(tmp_path):
    """Their names tell whole seconds, and these would be read last of theirs."""
    folder = tmp_path / 'tensorboard'
    folder.mkdir()
    now = int(time.time())
    earlier = [folder / f'events.out.tfevents.{second:010d}.~' for second in (now, now + 1)]
    for path in earlier:
        path.touch()
    with start(tmp_path, 0):
        pass
    files = sorted(folder.iterdir())
    assert len(files) == 3
    assert files[:2] == earlier
