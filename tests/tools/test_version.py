"""Which code made a file: the commit counts only in the top level of a repository."""

import subprocess

import pytest

from data_gen import __version__
from tools import version


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder that is taken for this project's: a repository with one committed file."""
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.org']
    (tmp_path / 'file').write_text('1')
    for words in (['init', '-q'], ['add', '.'], [*identity, 'commit', '-qm', 'first']):
        subprocess.run(['git', *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(version, 'FOLDER', tmp_path)
    version.code_version.cache_clear()
    yield tmp_path
    version.code_version.cache_clear()


def test_a_commit_and_whether_files_differ(repository):
    made = version.code_version()
    assert made['version'] == __version__ and len(made['commit']) == 40
    assert made['files_differ'] is False
    version.code_version.cache_clear()
    (repository / 'file').write_text('2')
    assert version.code_version() == made | {'files_differ': True}


def test_a_folder_inside_another_repository_has_no_commit(repository, monkeypatch):
    (repository / 'inside').mkdir()
    monkeypatch.setattr(version, 'FOLDER', repository / 'inside')
    assert version.code_version() == {
        'version': __version__,
        'commit': None,
        'files_differ': None,
    }


def test_without_git_there_is_no_commit(repository, monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert version.code_version()['commit'] is None
