"""What every entry point does first: in new processes, since it must come before numpy and torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
START = 'tools.common.start'


def entry_points():
    """Every file that can be run, below the root but not in tests or findings."""
    found = []
    for path in sorted(ROOT.rglob('*.py')):
        place = path.relative_to(ROOT)
        ours = place.parts[0] not in ('tests', 'findings') and not str(place).startswith('.')
        if ours and "if __name__ == '__main__'" in path.read_text():
            found.append(str(place))
    return found


def run(*command, **variables):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize('file', entry_points())
def test_it_is_the_first_import_but_the_standard_library(file):
    modules = []
    for statement in ast.parse((ROOT / file).read_text()).body:
        if isinstance(statement, ast.Import):
            modules += [name.name for name in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            modules.append(statement.module)
    before = modules[: modules.index(START)]
    assert {name.partition('.')[0] for name in before} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ('file', 'package'),
    [
        ('pretrain.py', 'torch'),
        ('tools/analysis/confusion.py', 'matplotlib'),
        ('data_gen/custom_gendata.py', 'numpy'),
        ('data_gen/ntu_gendata.py', 'tqdm'),
    ],
)
def test_a_missing_package_is_one_line(file, package):
    hide = f'import sys, runpy; sys.modules["{package}"] = None'
    done = run('-c', f'{hide}; runpy.run_path("{file}", run_name="__main__")')
    assert done.stderr.splitlines() == [
        f'error: {package} is not installed: source .venv/bin/activate, or see Install in README.md'
    ]
    assert done.returncode == 2


def test_ctrl_c_while_packages_are_imported_is_one_line():
    done = run(
        '-c',
        f'import {START}, signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
        'signal.raise_signal(signal.SIGINT)',
    )
    assert (done.stderr, done.returncode) == ('interrupted\n', 130)


@pytest.mark.parametrize('mistake', ['import feeder.nothing', 'import json; json.loads("")'])
def test_other_errors_keep_their_traceback(mistake):
    done = run('-c', f'import {START}; {mistake}')
    assert done.stderr.startswith('Traceback') and done.returncode == 1


@pytest.mark.parametrize(('given', 'policy'), [(None, 'passive'), ('active', 'active')])
def test_waiting_threads_sleep_unless_told_otherwise(monkeypatch, given, policy):
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    variables = {'OMP_WAIT_POLICY': given} if given else {}
    done = run('-c', f'import os, {START}; print(os.environ["OMP_WAIT_POLICY"])', **variables)
    assert done.stdout == f'{policy}\n'
