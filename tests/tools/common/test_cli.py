"""What all commands share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.common.cli import Parser

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ('word', 'expected'),
    [
        ('~/run', '/home/me/run'),
        ('~', '/home/me'),
        ('run/~', 'run/~'),
        ('~nobody-of-this-name/run', '~nobody-of-this-name/run'),
    ],
)
def test_a_tilde_in_a_path(monkeypatch, word, expected):
    """The shell expands it in `--out ~/run`, but not in `--out=~/run`."""
    monkeypatch.setenv('HOME', '/home/me')
    parser = Parser('')
    parser.add_argument('file', type=Path)
    parser.add_argument_group('more').add_argument('--out', type=Path, nargs='+')
    args = parser.parse_args([word, f'--out={word}'])
    assert [args.file, *args.out] == 2 * [Path(expected)]


@pytest.mark.parametrize(
    ('command', 'expected'),
    [
        ('package/tool.py', 'tool.py'),
        ('-m package.tool', 'python -m package.tool'),
        ('-m package', 'python -m package'),
        ('-m package.tool script.py', 'script.py'),  # as tools.demo runs a script
    ],
)
def test_a_mistake_names_the_command_as_it_was_typed(tmp_path, command, expected):
    (tmp_path / 'package').mkdir()
    for name in ('__main__.py', 'tool.py'):
        (tmp_path / 'package' / name).write_text(
            'import sys\n'
            'from tools.common.cli import Parser\n'
            'sys.argv = sys.argv[1:] or sys.argv\n'
            'Parser("").error("wrong")\n'
        )
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f'wrong (all flags: {expected} --help)' in done.stderr
