"""The published command lines, and the shell scripts, in a copy of the project with tiny raw
recordings.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_gen.demo_recordings import write_recordings

ROOT = Path(__file__).resolve().parents[1]
BASICS = ('bash', 'cat', 'dirname', 'grep', 'ls', 'mkdir', 'sed', 'sort', 'tail', 'tee', 'uname')


@pytest.fixture
def project(tmp_path):
    """A copy of the project."""
    copy = tmp_path / 'project'
    for folder in ('data_gen', 'feeder', 'model', 'tools'):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for file in [*ROOT.glob('*.py'), *ROOT.glob('*.sh'), *ROOT.glob('requirements*.txt')]:
        shutil.copy(file, copy)
    return copy


@pytest.fixture
def shell(project):
    """shell(command, **variables): run a command line in the copy, in this Python environment,
    without GPUs.
    """

    def run(command, check=True, **variables):
        environment = (
            os.environ
            | {
                'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
                'PYTHONPATH': '',
                'VIRTUAL_ENV': 'this',
                'CUDA_VISIBLE_DEVICES': '',
            }
            | variables
        )
        return subprocess.run(
            ['bash', '-c', command],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=check,
        )

    return run


@pytest.fixture
def stand_ins(tmp_path):
    """stand_ins(name='line of shell', …): commands in a folder of their own; returns a PATH with
    nothing but basics.
    """
    folder = tmp_path / 'bin'

    def write(**commands):
        folder.mkdir()
        for name in BASICS:
            (folder / name).symlink_to(shutil.which(name))
        for name, line in commands.items():
            (folder / name).write_text(f'#!/bin/sh\n{line}\n')
            (folder / name).chmod(0o755)
        return str(folder)

    return write


def test_published_command_lines(project, shell):
    """In order, each on the output of the one before: preparation, pre-training, probe, retrieval."""
    raw = project / 'data/nturgbd_raw/nturgb+d_skeletons'  # where the README puts the recordings
    write_recordings(raw, classes=3, performers=4)
    (raw.parent / 'samples_with_missing_skeletons.txt').write_text(
        'Missing:\n' + min(raw.iterdir()).stem + '  \n'
    )
    done = shell('cd data_gen && python ntu_gendata.py')
    assert '1 recording left out' in done.stdout
    assert sorted(path.name for path in (project / 'data/NTU-RGB-D-60-AGCN').iterdir()) == [
        'xsub',
        'xview',
    ]

    shell('./script_pretrain.sh ntu60 cross_subject --hidden-size 8 --epochs 2')
    assert (project / 'checkpoints/ntu60_xsub/checkpoint_0001.pth.tar').is_file()
    assert 'epoch 1:' in (project / 'checkpoints/ntu60_xsub/pretrain.txt').read_text()

    done = shell(
        './script_action_recognition.sh ntu60_xsub ntu60 cross_subject --results probe.json'
    )
    assert 'ntu60_xsub/checkpoint_0001.pth.tar is the newest checkpoint in' in done.stdout
    assert json.loads((project / 'probe.json').read_text())['config']['epochs'] == 150
    done = shell('./script_action_retrieval.sh ntu60_xsub ntu60 cross_subject')
    assert 'accuracy:' in done.stdout

    two = shell(
        'torchrun --nproc_per_node=2 pretrain.py --lr 0.0005 --batch-size 512 --schedule 351 '
        '--epochs 1 '
        '--checkpoint-path ./checkpoints/two --pre-dataset ntu60 --protocol cross_subject '
        '--hidden-size 8'
    )
    assert 'batch size is' in two.stderr
    log = (project / 'checkpoints/two/log.jsonl').read_text().splitlines()
    assert json.loads(log[0])['processes'] == 2
    assert len(log) == 2


@pytest.mark.parametrize(
    ('arguments', 'folder'),
    [
        ('', 'ntu60_xsub'),
        ('ntu60 cross_view', 'ntu60_xview'),
        ('ntu120', 'ntu120_xsub'),
        ('ntu120 cross_setup', 'ntu120_xsetup'),
        ('pku2', 'pku2_xsub'),
        ('pku1 cross_view', 'pku1_xview'),
    ],
)
def test_the_pretraining_script_has_the_published_settings(shell, stand_ins, arguments, folder):
    path = stand_ins(python='if [ "$1" = -c ]; then echo 1; else echo "$@"; fi')
    line = shell(f'./script_pretrain.sh {arguments} --seed 3', PATH=path).stdout
    published = f'--lr 0.0005 --checkpoint-path ./checkpoints/{folder} --schedule 351 --epochs 451'
    assert line.startswith(f'pretrain.py {published} ')
    assert '--batch-size' not in line  # pretrain.py knows it
    assert line.endswith('--seed 3\n')


@pytest.mark.parametrize('flag', ['--checkpoint-path mine/run', '--checkpoint-path=~/run'])
def test_what_is_printed_is_kept_beside_the_checkpoints(shell, stand_ins, project, flag):
    path = stand_ins(python='if [ "$1" = -c ]; then echo 1; else echo trained; fi')
    shell(f'./script_pretrain.sh {flag} --seed 3', PATH=path, HOME=str(project / 'mine'))
    assert (project / 'mine/run/pretrain.txt').read_text() == 'trained\n'
    assert not (project / 'checkpoints').exists()


@pytest.mark.parametrize('script', ['pretrain', 'action_recognition', 'action_retrieval'])
def test_help_is_shown_and_recorded_nowhere(shell, stand_ins, project, script):
    path = stand_ins(python='if [ "$1" = -c ]; then echo 1; else echo "$@"; fi')
    line = shell(f'./script_{script}.sh --help', PATH=path).stdout
    assert line.startswith(f'{script}.py') and line.endswith(' --help\n')
    assert not (project / 'checkpoints').exists()


@pytest.mark.parametrize(
    ('arguments', 'protocol', 'folder'),
    [('custom', 'own_split', 'custom'), ('nwucla', 'cross_view', 'nwucla_xview')],
)
def test_the_pretraining_script_has_another_recipe_for_small_sets(
    shell, stand_ins, arguments, protocol, folder
):
    path = stand_ins(python='if [ "$1" = -c ]; then echo 1; else echo "$@"; fi')
    line = shell(f'./script_pretrain.sh {arguments}', PATH=path).stdout
    assert line.startswith(
        f'pretrain.py --recipe small-data --checkpoint-path ./checkpoints/{folder} '
        f'--pre-dataset {arguments} --protocol {protocol} '
    )


def test_the_pretraining_script_uses_all_gpus(shell, stand_ins):
    path = stand_ins(python='if [ "$1" = -c ]; then echo 4; else echo "$@"; fi')
    line = shell('./script_pretrain.sh', PATH=path).stdout
    assert line.startswith('-m tools.launch --standalone pretrain.py ')


@pytest.mark.parametrize(
    ('path', 'arguments', 'flags'),
    [
        ('mine', 'mine', ''),
        ('mine', 'mine ntu60', ' --finetune-dataset ntu60 --protocol cross_subject'),
        (
            'mine/checkpoint_0450.pth.tar',
            './checkpoints/mine/checkpoint_0450.pth.tar --amp bf16',
            ' --amp bf16',
        ),
        (
            'mine',
            './checkpoints/mine/ custom --amp bf16',
            ' --finetune-dataset custom --protocol own_split --amp bf16',
        ),
        ('ntu60_xsub', '', ''),
    ],
)
def test_the_evaluation_scripts_name_a_folder_or_a_file(
    shell, stand_ins, project, path, arguments, flags
):
    folder = project / 'checkpoints' / path.split('/')[0]
    folder.mkdir(parents=True)
    (folder / 'checkpoint_0450.pth.tar').touch()
    done = shell(f'./script_action_retrieval.sh {arguments}', PATH=stand_ins(python='echo "$@"'))
    lines = done.stdout.splitlines()
    assert lines == [
        f'evaluating ./checkpoints/{path}',
        f'action_retrieval.py --knn-neighbours 1 --pretrained ./checkpoints/{path}{flags}',
    ]
    assert (folder / 'action_retrieval.txt').read_text() == lines[1] + '\n'


@pytest.mark.parametrize(
    'command',
    [
        './script_pretrain.sh ntu60 cross_setup',
        './script_reproduce.sh nonsense',
        './script_action_recognition.sh no_such_folder',
        './script_action_retrieval.sh no_such_folder',
    ],
)
def test_a_script_passes_on_the_exit_code(shell, command):
    failed = shell(command, check=False)
    assert failed.returncode == 2
    assert failed.stderr.startswith('error: ')
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize('ruff', [True, False])
def test_the_test_script_runs_the_linter_if_it_is_there(shell, stand_ins, ruff):
    commands = {'python': 'if [ "$1" != -c ]; then echo "python $*"; fi'} | (
        {'ruff': 'echo "ruff $*"'} if ruff else {}
    )
    done = shell('./script_test.sh -x', PATH=stand_ins(**commands))
    linting = ['ruff check .', 'ruff format --check --quiet .'] if ruff else []
    assert done.stdout.splitlines() == [
        *linting,
        'python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile -x',
    ]
    assert ('ruff is not installed' in done.stderr) != ruff


def test_the_test_script_stops_at_the_linter(shell, stand_ins):
    failed = shell('./script_test.sh', check=False, PATH=stand_ins(python='true', ruff='exit 1'))
    assert failed.returncode == 1


@pytest.mark.parametrize(
    ('script', 'file'),
    [
        ('script_demo.sh', 'requirements.txt'),
        ('script_reproduce.sh --demo', 'requirements.txt'),
        ('script_test.sh', 'requirements-dev.txt'),
    ],
)
@pytest.mark.parametrize('torch', [True, False])
def test_missing_packages_are_installed_but_never_torch_over_torch(
    shell, stand_ins, script, file, torch
):
    python = (
        f'case "$*" in "-c import torch") exit {int(not torch)};; -c*) exit 1;; '
        '*/dev/stdin) echo "$*"; cat;; *) echo "$*";; esac'
    )
    done = shell(f'./{script}', PATH=stand_ins(python=python))
    assert f'installing {file}' in done.stderr
    if not torch:
        assert f'-m pip install -r {file}' in done.stdout
        return
    assert '-m pip install -r /dev/stdin' in done.stdout
    lines = done.stdout.splitlines()
    assert 'numpy>=1.26' in lines
    assert 'scipy>=1.10' in lines
    assert ('pytest>=8' in lines) == (file == 'requirements-dev.txt')
    assert not [line for line in lines if line.startswith(('torch', '-r '))]


@pytest.mark.parametrize(
    ('reachable', 'pip_config', 'gpu', 'cpu_builds'),
    [
        (True, '', False, True),
        (False, '', False, False),
        (True, "global.find-links='/wheels'", False, False),
        (True, "global.index-url='https://mirror'", False, False),
        (True, '', True, False),
    ],
)
def test_cpu_builds_where_there_is_no_gpu(shell, stand_ins, reachable, pip_config, gpu, cpu_builds):
    """The stand-in for Python answers for the index, and for what pip is configured to use."""
    python = (
        f'case "$*" in *urlopen*) exit {int(not reachable)};; -c*) exit 1;; '
        f'*config*) echo "{pip_config}";; *) echo "$*";; esac'
    )
    commands = {'python': python} | ({'nvidia-smi': 'true'} if gpu else {})
    done = shell('./script_demo.sh', PATH=stand_ins(**commands))
    index = ' --extra-index-url https://download.pytorch.org/whl/cpu' if cpu_builds else ''
    assert done.stdout.splitlines()[0] == f'-m pip install -r requirements.txt{index}'
    assert ('0.32 GB' if cpu_builds else '2.9 GB') in done.stderr
    notes = [line for line in done.stderr.splitlines() if line.startswith('note: ')]
    assert len(notes) == (not reachable)
    assert all('no NVIDIA GPU was found, but https://download' in note for note in notes)
