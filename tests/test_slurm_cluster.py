"""script_pretrain_slurm.sh on a real SLURM cluster of two nodes on this machine: ./script_test.sh -m slurm

1. Debian's slurm-wlm and munge are installed with apt, if they are not there; this needs root.
2. munged, with a key of its own, and the files of SLURM live in a folder of the test.
3. slurm.conf names two nodes, n1 and n2, on two ports; each has 4 GPUs, which are empty files.
4. /etc/hosts calls this machine n1 and n2 until the test ends, so that the processes can meet.
5. slurmctld and a slurmd for each node are children of the test; killing n2's is a broken machine.
6. A job of four minutes gets USR1 after two. SLURM holds it for two before it starts again.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tools import checkpoint

ROOT = Path(__file__).resolve().parents[1]
HOSTS, NAMES = Path('/etc/hosts'), '127.0.0.1 n1 n2\n'
NODES = ('n1', 'n2')
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} Port=17001 CPUs=16 RealMemory=1000 Gres=gpu:4
NodeName=n2 NodeHostname={host} Port=17002 CPUs=16 RealMemory=1000 Gres=gpu:4
PartitionName=main Nodes=n1,n2 Default=YES State=UP
"""
FLAGS = ['--hidden-size', '16', '--batch-size', '16', '--save-every', '10', '--print-freq', '1000']
MANY = 1_000_000  # epochs: more than there is time for

pytestmark = pytest.mark.slurm


def ask(*command, **more):
    """The output of a command."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, f'{command}: {done.stdout}{done.stderr}'
    return done.stdout.strip()


def wait_for(condition, seconds, what):
    """The first true value of condition(), within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.5)
    raise AssertionError(f'{what}: not within {seconds} s')


class Cluster:
    """munged, slurmctld and two slurmds, with all their files in one folder."""

    def __init__(self, folder):
        self.folder, self.processes = folder, {}
        host = socket.gethostname().split('.')[0]
        for name in ('state', 'log', *(f'spool.{node}' for node in NODES)):
            (folder / name).mkdir()
        (folder / 'munge.key').write_bytes(os.urandom(1024))
        (folder / 'munge.key').chmod(0o400)
        (folder / 'slurm.conf').write_text(CONFIGURATION.format(host=host, folder=folder))
        for gpu in range(4):
            (folder / f'gpu{gpu}').touch()
        (folder / 'gres.conf').write_text(f'NodeName=n[1-2] Name=gpu File={folder}/gpu[0-3]\n')
        os.environ['SLURM_CONF'] = str(folder / 'slurm.conf')

    def start(self, name, *command):
        with open(self.folder / 'log' / name, 'a') as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def start_all(self):
        files = [
            f'--{name}-file={self.folder}/munge.{name}' for name in ('key', 'pid', 'log', 'seed')
        ]
        self.start('munged', 'munged', '-F', '-f', *files, f'--socket={self.folder}/munge.socket')
        wait_for((self.folder / 'munge.socket').exists, 20, 'munged')
        self.start('slurmctld', 'slurmctld', '-D')
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.states() == ['idle', 'idle'], 60, 'two idle nodes')

    def start_node(self, node):
        self.start(node, 'slurmd', '-D', '-N', node)

    def kill(self, name):
        self.processes[name].kill()
        self.processes.pop(name).wait()

    def states(self):
        done = subprocess.run(
            ['sinfo', '-h', '-N', '-o', '%T'], capture_output=True, text=True, timeout=60
        )
        return done.stdout.split()


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    """A Cluster of two idle nodes; it is gone after the tests."""
    if os.geteuid() != 0:
        pytest.skip('a SLURM cluster is set up by root only')
    if not shutil.which('slurmctld'):
        if not shutil.which('apt-get'):
            pytest.skip('SLURM is not installed, and there is no apt to install it')
        install = 'apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge'
        if subprocess.run(install, shell=True, capture_output=True).returncode:
            pytest.skip('SLURM could not be installed with apt')
    before = HOSTS.read_text()
    HOSTS.write_text(f'{before.rstrip()}\n{NAMES}')
    cluster = Cluster(tmp_path_factory.mktemp('slurm'))
    try:
        cluster.start_all()
        yield cluster
        subprocess.run(['scancel', '--user=root'], timeout=60)
        wait_for(lambda: not ask('squeue', '-h'), 120, 'all jobs gone')
    finally:
        for name in reversed([*cluster.processes]):
            cluster.kill(name)
        HOSTS.write_text(before)


@pytest.fixture
def project(tmp_path, padded_arrays):
    """A copy of the project with made arrays."""
    copy = tmp_path / 'project'
    for folder in ('data_gen', 'feeder', 'model', 'tools'):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns('__pycache__'))
    for file in [*ROOT.glob('*.py'), *ROOT.glob('*.sh')]:
        shutil.copy(file, copy)
    padded_arrays(copy / 'data/NTU-RGB-D-60-AGCN/xsub', train=48)
    return copy


class Undisturbed:
    """The same run in two processes without SLURM, in project/undisturbed/."""

    def __init__(self, project):
        self.project, self.run = project, project / 'undisturbed'
        self.process = None

    def start(self):
        launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
        flags = ['--checkpoint-path', 'undisturbed', '--epochs', str(MANY), *FLAGS]
        self.process = subprocess.Popen(
            ['nice', sys.executable, *launcher, 'pretrain.py', *flags],
            cwd=self.project,
            env=os.environ | {'OMP_NUM_THREADS': '1'},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self):
        """End the launcher, which ends its processes."""
        if self.process:
            self.process.terminate()
            self.process.wait(60)


@pytest.fixture
def undisturbed(project):
    run = Undisturbed(project)
    yield run
    run.stop()


class Job:
    """A job of script_pretrain_slurm.sh; its run lies in project/checkpoints/ntu60_xsub."""

    def __init__(self, project, *flags):
        environment = os.environ | {
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            'VIRTUAL_ENV': 'this',
            'PYTHONPATH': '',
            'OMP_NUM_THREADS': '1',
        }
        sbatch = ['sbatch', '--parsable', '--time=00:04:00', 'script_pretrain_slurm.sh']
        words = [*sbatch, 'ntu60', 'cross_subject', *FLAGS, *flags]
        self.number = ask(*words, cwd=project, env=environment)
        self.run = project / 'checkpoints/ntu60_xsub'
        self.output = project / f'slurm-{self.number}.txt'
        self.starts = 0

    def facts(self):
        words = ask('scontrol', '-o', 'show', 'job', self.number).split()
        return dict(word.split('=', 1) for word in words if '=' in word)

    def epochs(self):
        """The epochs in the log."""
        log = self.run / 'log.jsonl'
        lines = log.read_text().splitlines() if log.exists() else []
        return [each['epoch'] for each in map(json.loads, lines) if 'epoch' in each]

    def text(self):
        return self.output.read_text() if self.output.exists() else ''

    def has_trained(self):
        """Wait until it runs and has trained an epoch more."""
        wait_for(lambda: self.facts()['JobState'] == 'RUNNING', 240, 'running')
        before = len(self.epochs())
        wait_for(lambda: len(self.epochs()) > before, 120, 'an epoch more')

    def is_queued_again(self, restarts):
        """Wait until SLURM has put it back into the queue for so many times, and holds it there."""
        held = {'JobState': 'PENDING', 'Reason': 'BeginTime', 'Restarts': str(restarts)}
        wait_for(lambda: held.items() <= self.facts().items(), 240, f'restart {restarts}')


def position(run):
    saved = torch.load(run / checkpoint.LAST, weights_only=True)
    return saved['epoch'], saved['step']


def resumed_at(epoch, step):
    return f'checkpoint_last.pth.tar at epoch {epoch}' + (f', step {step}' if step else '') + '\n'


def test_two_time_limits_and_a_broken_node(cluster, project, undisturbed):
    job = Job(project, '--epochs', str(MANY))
    for stop in (1, 2):
        job.has_trained()
        job.is_queued_again(stop)
        assert 'stopped by SIGTERM' in job.text()
        assert 'Traceback' not in job.text()
        left = position(job.run)
        print(f'queued again at epoch {left[0]}, step {left[1]}')
        if stop == 1:
            undisturbed.start()
        job.has_trained()
        assert resumed_at(*left) in job.text()

    cluster.kill('n2')
    ask('scontrol', 'update', 'nodename=n2', 'state=down', 'reason=test')
    job.is_queued_again(3)
    cluster.start_node('n2')
    ask('scontrol', 'update', 'nodename=n2', 'state=resume')
    job.has_trained()
    print(f'trained on after a node was down, {len(job.epochs())} epochs so far')

    ask('scancel', job.number)
    wait_for(lambda: not ask('squeue', '-h'), 120, 'cancelled')
    last = len(job.epochs()) // 10 * 10 + 20
    final = Job(project, '--epochs', str(last + 1))  # submitted again, it continues too
    wait_for(lambda: final.facts()['JobState'] == 'COMPLETED', 120, 'completed')
    assert final.facts()['ExitCode'] == '0:0'
    assert 'note: torch sees no GPU here: one process on the CPU' in final.text()
    assert job.epochs() == list(range(last + 1))
    assert job.text().count('resuming from') == 3
    print(*(line for line in job.text().splitlines() if not line.startswith('epoch')), sep='\n')
    path = checkpoint.path_of(undisturbed.run, last)
    wait_for(path.exists, 300, 'the undisturbed run')
    one, other = (
        torch.load(checkpoint.path_of(run, last), weights_only=True)
        for run in (job.run, undisturbed.run)
    )
    assert one['state_dict'].keys() == other['state_dict'].keys()
    for name, tensor in one['state_dict'].items():
        assert tensor.equal(other['state_dict'][name]), name
