"""The demo's own part: running commands, and the table at the end. The stages have tests of their
own.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools import checkpoint, demo
from tools.common import cli

ROOT = Path(__file__).resolve().parents[2]
SAVES_WHEN_STOPPED = """
import signal, sys, time
def stop(number, frame):
    time.sleep(1)
    print("saved", flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""
RUNS_IT = """
import sys
from tools import demo
from tools.common import cli
def main():
    try:
        demo.run_command("-c", sys.argv[1])
    finally:
        print("ended", flush=True)
cli.run(main)
"""


def test_a_command_that_fails_ends_with_its_own_exit_code(capfd):
    with pytest.raises(SystemExit) as stop:
        demo.run_command('-c', 'import sys; sys.exit("error: its own line")')
    assert stop.value.code == 1
    out, err = capfd.readouterr()
    assert out == '\n$ python -c import sys; sys.exit("error: its own line")\n'
    assert err == 'error: its own line\n'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_us_once_the_command_has_saved(number):
    """As a terminal sends SIGINT, to the command too, and as a program sends SIGTERM, to us alone."""
    run = subprocess.Popen(
        [sys.executable, '-c', RUNS_IT, SAVES_WHEN_STOPPED],
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    while run.stdout.readline() != 'ready\n':
        assert run.poll() is None
    send = os.killpg if number == signal.SIGINT else os.kill
    send(run.pid, number)
    out, _ = run.communicate(timeout=120)
    assert out == 'saved\nended\n'
    assert run.returncode == 128 + number


def test_a_command_in_this_process_is_recorded_as_its_own(monkeypatch, capfd):
    monkeypatch.setattr(sys, 'argv', ['tools/demo.py'])
    with pytest.raises(SystemExit) as stop:
        demo.run_here('action_retrieval.py', '--help')
    assert stop.value.code == 0
    assert sys.argv == ['action_retrieval.py', '--help']
    shown = capfd.readouterr().out
    assert shown.startswith('\n$ python action_retrieval.py --help\nusage: action_retrieval.py ')


def test_the_table_compares_a_pretrained_with_an_untrained_encoder(tmp_path, monkeypatch, capsys):
    def run_command(*command):
        words = [str(word) for word in command]
        if words[0] == 'pretrain.py':
            folder = tmp_path / 'checkpoints'
            folder.mkdir()
            checkpoint.path_of(folder, 0).touch()
            checkpoint.path_of(folder, 49).touch()
        if '--results' in words:
            pretrained = words[words.index('--pretrained') + 1]
            accuracy = 80 if pretrained.endswith('checkpoints/checkpoint_0049.pth.tar') else 60
            accuracy += 5 * (words[0] == 'action_retrieval.py')
            with open(words[words.index('--results') + 1], 'w') as file:
                json.dump({'accuracy': accuracy}, file)
        return 2.0

    monkeypatch.setattr(demo, 'run_command', run_command)
    monkeypatch.setattr(demo, 'run_here', run_command)
    demo.main(['--folder', str(tmp_path)])
    shown = capsys.readouterr().out
    ending = shown.partition(f'In {tmp_path}:\n')[2]
    for what in ('explorer.html', 'checkpoint_0049.pth.tar', 'data_gen.custom_gendata', '--pixels'):
        assert what in ending
    lines = [line.split() for line in shown.splitlines()]
    assert ['pre-trained', '80.0', '85.0'] in lines
    assert ['not', 'trained', '60.0', '65.0'] in lines
    assert torch.load(tmp_path / 'untrained.pth.tar')['epoch'] == 0


def test_someone_elses_folder_is_never_emptied(tmp_path, capsys):
    (tmp_path / 'checkpoints').mkdir()
    kept = tmp_path / 'checkpoints' / 'checkpoint_0450.pth.tar'
    kept.touch()
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: demo.main(['--folder', str(tmp_path)]))
    assert stop.value.code == 2
    assert 'not a folder of the demo' in capsys.readouterr().err
    assert kept.is_file()
