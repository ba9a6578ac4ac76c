"""The published command lines, typed as published, in a copy of the project with tiny raw recordings."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_gen.demo_recordings import write_recordings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of the project, with demo recordings where the README says raw data go."""
    copy = tmp_path_factory.mktemp('project')
    for folder in ('data_gen', 'feeder', 'model', 'tools'):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for file in [*ROOT.glob('*.py'), *ROOT.glob('*.sh')]:
        shutil.copy(file, copy)
    raw = copy / 'data/nturgbd_raw/nturgb+d_skeletons'
    write_recordings(raw, classes=3, performers=4)
    (raw.parent / 'samples_with_missing_skeletons.txt').write_text('Missing:\n' + min(raw.iterdir()).stem + '  \n')
    return copy


@pytest.fixture
def shell(project):
    """shell(command): run a command line in the copy, in this Python environment."""
    def run(command, check=True):
        environment = os.environ | {'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
                                    'VIRTUAL_ENV': 'this', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': ''}
        return subprocess.run(['bash', '-c', command], cwd=project, env=environment, capture_output=True, text=True,
                              check=check)
    return run


def test_published_command_lines(project, shell):
    """In order, each on what the one before left: preparing, pre-training, probe, retrieval."""
    done = shell('cd data_gen && python ntu_gendata.py')
    assert '1 recordings left out: named in samples_with_missing_skeletons.txt' in done.stdout
    assert sorted(path.name for path in (project / 'data/NTU-RGB-D-60-AGCN').iterdir()) == ['xsub', 'xview']

    shell('./script_pretrain.sh ntu60 cross_subject --hidden-size 8 --epochs 2')
    assert (project / 'checkpoints/ntu60_xsub/checkpoint_0001.pth.tar').is_file()
    assert 'epoch 1:' in (project / 'checkpoints/ntu60_xsub/pretrain.txt').read_text()

    done = shell('./script_action_recognition.sh ntu60_xsub ntu60 cross_subject --results probe.json')
    assert 'evaluating ./checkpoints/ntu60_xsub/checkpoint_0001.pth.tar' in done.stdout
    assert json.loads((project / 'probe.json').read_text())['args']['epochs'] == 150
    done = shell('./script_action_retrieval.sh ntu60_xsub ntu60 cross_subject')
    assert 'accuracy:' in done.stdout

    two = shell('torchrun --nproc_per_node=2 pretrain.py --lr 0.0005 --batch-size 512 --schedule 351 --epochs 1 '
                '--checkpoint-path ./checkpoints/two --pre-dataset ntu60 --protocol cross_subject --hidden-size 8')
    assert 'batch size is' in two.stderr
    log = (project / 'checkpoints/two/log.jsonl').read_text().splitlines()
    assert json.loads(log[0])['processes'] == 2
    assert len(log) == 2


def test_the_pretraining_script_knows_the_published_settings(project, shell):
    """What each protocol is trained with, read off by a stand-in for pretrain.py."""
    (project / 'bin').mkdir()
    (project / 'bin/python').write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo 1; else echo "$@"; fi\n')
    (project / 'bin/python').chmod(0o755)
    for arguments, batch, folder in [('', 512, 'ntu60_xsub'), ('ntu60 cross_view', 1024, 'ntu60_xview'),
                                     ('ntu120', 1024, 'ntu120_xsub'), ('ntu120 cross_setup', 1024, 'ntu120_xsetup')]:
        line = shell(f'PATH=$PWD/bin:$PATH ./script_pretrain.sh {arguments} --seed 3').stdout
        assert f'--batch-size {batch} --checkpoint-path ./checkpoints/{folder} --schedule 351 --epochs 451' in line
        assert line.endswith('--seed 3\n')


@pytest.mark.parametrize('command', ['./script_pretrain.sh ntu60 cross_setup', './script_pretrain.sh nonsense',
                                     './script_action_recognition.sh no_such_folder',
                                     './script_action_retrieval.sh no_such_folder'])
def test_a_script_passes_on_the_exit_code(shell, command):
    failed = shell(command, check=False)
    assert failed.returncode == 2
    assert failed.stderr.startswith('error: ')
    assert len(failed.stderr.splitlines()) == 1
