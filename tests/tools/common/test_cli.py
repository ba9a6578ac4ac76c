"""What all commands share."""

from pathlib import Path

import pytest

from tools.common.cli import Parser


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
