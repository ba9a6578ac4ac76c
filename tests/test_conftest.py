"""The tests leave the repository as it is."""

from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ('mode', 'noticed'), [('w', True), ('a', True), ('r+', True), ('r', False)]
)
def test_opening_a_file_of_the_repository_for_writing_is_noticed(repository_writes, mode, noticed):
    path = ROOT / 'no_such_folder' / 'file'
    with suppress(FileNotFoundError):
        path.open(mode)
    assert repository_writes == ([str(path)] if noticed else [])
    repository_writes.clear()


def test_other_folders_and_caches_do_not_count(repository_writes, tmp_path):
    (tmp_path / 'file').write_text('')
    with suppress(FileNotFoundError):
        (ROOT / 'no_such_folder/__pycache__/file').open('w')
    assert Path.cwd() == tmp_path
    assert repository_writes == []
