"""script_pretrain_slurm.sh, with stand-ins for SLURM's commands and Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = 'script_pretrain_slurm.sh'
STAND_INS = {  # each says what it was asked; srun then runs the command behind its flags
    'scontrol': 'echo "scontrol $*" >&2; printf "node7\\nnode9\\n"',
    'srun': 'while [ "${1#--}" != "$1" ]; do echo "srun $1"; shift; done; exec "$@"',
    # it may signal the script, and wait until it is signalled
    'python': 'shift 2; for word; do echo "torchrun $word"; done\n'
    'if [ -n "$TORCHRUN_UNTIL" ]; then kill -USR1 "$SCRIPT"; fi\n'
    'while [ -n "$TORCHRUN_UNTIL" ] && [ ! -e "$TORCHRUN_UNTIL" ]; do sleep 0.05; done\n'
    'exit "${TORCHRUN_ENDS_WITH:-0}"',
    'scancel': 'echo "scancel $*" >&2; touch "$TORCHRUN_UNTIL"',
}


@pytest.fixture
def submit(tmp_path):
    """submit(*arguments, **variables): run the script as SLURM does, from a copy elsewhere, in the
    project's root.
    """
    root, spool, commands = tmp_path / 'project', tmp_path / 'spool', tmp_path / 'bin'
    for folder in (root / 'tools', spool, commands):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / 'tools/scripts.sh', root / 'tools')
    shutil.copy(ROOT / SCRIPT, spool / 'slurm_script')
    for name, lines in STAND_INS.items():
        (commands / name).write_text(f'#!/bin/sh\n{lines}\n')
        (commands / name).chmod(0o755)

    def run(*arguments, **variables):
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith('SLURM')
        }
        environment |= {
            'PATH': f'{commands}:{os.environ["PATH"]}',
            'SLURM_SUBMIT_DIR': str(root),
            'SLURM_JOB_ID': '41',
            'SLURM_JOB_NODELIST': 'node[7,9]',
            'SLURM_CPUS_PER_TASK': '16',
        } | variables
        environment = {name: value for name, value in environment.items() if value is not None}
        start = ['bash', '-c', 'export SCRIPT=$$; exec bash "$@"', '-', spool / 'slurm_script']
        return subprocess.run(
            [*start, *arguments], env=environment, cwd=spool, capture_output=True, text=True
        )

    return run


def test_the_default_job(submit, tmp_path):
    done = submit()
    assert done.returncode == 0, done.stderr
    assert 'scontrol show hostnames node[7,9]' in done.stderr
    asked = done.stdout.splitlines()
    assert {
        'srun --nodes=2',
        'srun --ntasks=2',
        'srun --ntasks-per-node=1',
        'srun --cpus-per-task=16',
    } <= set(asked)
    words = [line.removeprefix('torchrun ') for line in asked if line.startswith('torchrun ')]
    assert words[: words.index('pretrain.py')] == [
        '--nnodes=2',
        '--rdzv-backend=c10d',
        '--rdzv-id=41',
        '--rdzv-endpoint=node7:20041',
    ]
    assert ' '.join(words[words.index('pretrain.py') :]) == (
        'pretrain.py --lr 0.0005 --checkpoint-path ./checkpoints/ntu60_xsub '
        '--schedule 351 '
        '--epochs 451 --pre-dataset ntu60 --protocol cross_subject --resume auto'
    )
    assert (tmp_path / 'project/checkpoints/ntu60_xsub/pretrain.txt').read_text() == done.stdout


@pytest.mark.parametrize(
    'arguments, folder, dataset, protocol',
    [
        ('ntu60 cross_view', 'ntu60_xview', 'ntu60', 'cross_view'),
        ('ntu120', 'ntu120_xsub', 'ntu120', 'cross_subject'),
        ('ntu120 cross_setup', 'ntu120_xsetup', 'ntu120', 'cross_setup'),
    ],
)
def test_arguments_are_those_of_the_other_script(submit, arguments, folder, dataset, protocol):
    words = submit(*arguments.split(), '--resume', 'none').stdout.replace('torchrun ', '').split()
    given = dict(
        zip(
            words[words.index('pretrain.py') + 1 :: 2],
            words[words.index('pretrain.py') + 2 :: 2],
            strict=True,
        )
    )
    assert given == {
        '--lr': '0.0005',
        '--checkpoint-path': f'./checkpoints/{folder}',
        '--schedule': '351',
        '--epochs': '451',
        '--pre-dataset': dataset,
        '--protocol': protocol,
        '--resume': 'none',
    }


def test_own_recordings_get_the_recipe_for_small_data(submit):
    done = submit('custom', '--hidden-size', '128')
    assert 'using --recipe small-data' in done.stderr
    words = done.stdout.replace('torchrun ', '').split()
    assert words[words.index('pretrain.py') + 1 :] == [
        '--recipe',
        'small-data',
        '--checkpoint-path',
        './checkpoints/custom',
        '--pre-dataset',
        'custom',
        '--protocol',
        'own_split',
        '--resume',
        'auto',
        '--hidden-size',
        '128',
    ]


def test_before_the_time_limit_the_run_saves_and_is_queued_again(submit, tmp_path):
    """SLURM signals the script alone; the script signals the step, waits for it, and asks for
    another turn.
    """
    done = submit(TORCHRUN_UNTIL=str(tmp_path / 'signalled'), TORCHRUN_ENDS_WITH='1')
    assert done.returncode == 1
    *_, signalled, queued = done.stderr.splitlines()
    assert (signalled, queued) == ('scancel --signal=TERM 41.0', 'scontrol requeue 41')
    assert 'requeue' not in submit(TORCHRUN_ENDS_WITH='1').stderr


def test_a_run_that_ends_while_it_is_signalled_is_not_queued_again(submit, tmp_path):
    done = submit(TORCHRUN_UNTIL=str(tmp_path / 'signalled'))
    assert done.returncode == 0
    assert 'scancel' in done.stderr
    assert 'requeue' not in done.stderr


def test_a_failure_is_not_hidden(submit):
    assert submit(TORCHRUN_ENDS_WITH='3').returncode == 3


def test_without_a_cpu_count(submit):
    assert '--cpus-per-task' not in submit(SLURM_CPUS_PER_TASK=None).stdout


@pytest.mark.parametrize(
    'variables, message',
    [
        ({'SLURM_SUBMIT_DIR': '/'}, "not the project's root"),
        ({'SLURM_JOB_NODELIST': None}, 'not a SLURM job'),
    ],
)
def test_started_in_the_wrong_way(submit, variables, message):
    failed = submit(**variables)
    assert failed.returncode == 2
    assert message in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
