"""python -m tools.launch, which the scripts start on each machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
print('processes:', os.environ['WORLD_SIZE'], flush=True)
if sys.argv[1] == 'wait':
    signal.pause()
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def launch(tmp_path):
    """launch(argument): start a process that waits for a signal, or ends with a code."""
    (tmp_path / 'worker.py').write_text(WORKER)

    def start(argument):
        return subprocess.Popen(
            [
                sys.executable,
                '-m',
                'tools.launch',
                '--standalone',
                tmp_path / 'worker.py',
                argument,
            ],
            cwd=ROOT,
            env=os.environ | {'CUDA_VISIBLE_DEVICES': ''},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_a_clean_stop_ends_in_the_exit_code_without_a_traceback(launch):
    launched = launch('wait')
    assert launched.stdout.readline() == 'processes: 1\n'
    launched.send_signal(signal.SIGTERM)
    _, said = launched.communicate(timeout=120)
    assert launched.returncode == 128 + signal.SIGTERM
    assert 'Traceback' not in said
    assert 'note: torch sees no GPU here: one process on the CPU' in said


@pytest.mark.parametrize(('argument', 'succeeds'), [('0', True), ('3', False)])
def test_a_failure_is_not_hidden(launch, argument, succeeds):
    launched = launch(argument)
    _, said = launched.communicate(timeout=120)
    assert (launched.returncode == 0) is succeeds
    assert ('exitcode  : 3' in said) is not succeeds
