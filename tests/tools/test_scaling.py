"""Communication by formula, against naive rings, against what two processes really send, and what follows from it."""
import json
from argparse import Namespace

import pytest

from tools import costs, scaling, scaling_check

LINK = Namespace(bandwidth=1, latency=100)  # 1 GB/s, 100 us
MEASURED = scaling.Measured(step=.1, backward=.06, optimizer=.01, objective=.02, gram=.005, batch_size=64,
                            hidden_size=32, z_bytes=4)


@pytest.mark.parametrize('n', [1, 2, 3, 8])
def test_bytes_of_a_ring(n):
    """Each process hands on one chunk a round, until all have gone round."""
    reduced = gathered = 0
    for _ in range(n - 1):
        reduced += 2 * 120 / n  # once to be summed, once to be known
        gathered += 120
    assert costs.all_reduce_bytes(120, n) == pytest.approx(reduced)
    assert costs.all_gather_bytes(120, n) == gathered


def test_messages_of_a_step_by_hand():
    """Two processes at the published size."""
    messages = costs.step_messages(1024, 512, 2, z_bytes=2)
    assert costs.parameters(1024) / 1e6 == pytest.approx(72.45, abs=.005)
    assert messages == {'gradients': (pytest.approx(4 * costs.parameters(1024)), 12, 2),  # in buckets of 25 MiB
                        'gather of z': (6 * 256 * 4096 * 2, 1, 1),
                        'BatchNorm, forward': (12 * 4 * (2 * 2048 + 1), 12, 1),
                        'BatchNorm, backward': (12 * 4 * 2 * 2048, 12, 2)}
    assert not any(sent for sent, *_ in costs.step_messages(1024, 512, 1).values())
    alone = costs.step_messages(1024, 512, 2, batch_norm=False)
    assert alone['BatchNorm, forward'] == (0, 0, 1)


@pytest.mark.skipif(not scaling_check.COUNTERS.is_file(), reason='bytes are counted where Linux counts them')
def test_two_processes_send_what_was_predicted():
    found = scaling_check.measure(hidden_size=8, batch_size=8, windows=2)
    sent = 2 * sum(size for size, *_ in costs.step_messages(8, 8, 2, batch_norm=False).values())
    assert .98 * sent < found['sent'] < 1.15 * sent  # headers, and buffers that one process tells the other
    assert min(found.values()) > 0


def test_one_gpu_is_as_measured():
    line = scaling.predict(MEASURED, 1, 64, LINK)
    assert (line.sent, line.gradients, line.waited) == (0, 0, 0)
    assert line.step == line.apart == line.compute == pytest.approx(.1)
    double = scaling.predict(MEASURED, 1, 128, LINK).step
    assert double == pytest.approx(2 * .07 + .01 + 2 * .015 + 4 * .005)


def test_two_gpus_by_hand():
    line = scaling.predict(MEASURED, 2, 64, LINK)
    assert line.compute == pytest.approx(.07 / 2 + .01 + .02)
    gradients = 4 * costs.parameters(32) / 1e9 + 2e-4
    assert line.gradients == pytest.approx(gradients)
    waited = (6 * 32 * 4096 * 4 + 12 * 4 * 129 + 12 * 4 * 128) / 1e9 + (1 + 12 + 24) * 1e-4
    assert line.waited == pytest.approx(waited)
    assert line.apart == pytest.approx(line.compute + gradients + waited)
    assert gradients < .03  # within the backward, but all of it one bucket, the last
    assert line.step == pytest.approx(line.apart)


def test_gradients_hide_behind_the_backward():
    large = MEASURED._replace(hidden_size=1024)
    line = scaling.predict(large, 2, 64, Namespace(bandwidth=10, latency=0))
    assert line.gradients == pytest.approx(.02898, abs=1e-5)
    assert line.step - line.compute - line.waited == pytest.approx(costs.BUCKET / 10e9)
    slow = scaling.predict(large, 2, 64, Namespace(bandwidth=1, latency=0))
    assert slow.step - slow.compute - slow.waited == pytest.approx(slow.gradients - .06 / 2)


def benchmark_file(path):
    rows = [{'stage': stage, 'dtype': dtype, 'seconds': seconds} for stage, dtype, seconds in [
        ('objective', 'float32', .02), ('optimizer', 'float32', .01), ('backward', 'bf16', .06), ('step', 'bf16', .1)]]
    path.write_text(json.dumps({'rows': rows, 'batch_size': 64, 'hidden_size': 32, 'peaks': {
        'matmul float32': costs.objective_flops(64) / .005}}))
    return path


def test_a_file_of_the_benchmark(tmp_path, capsys):
    assert scaling.read(benchmark_file(tmp_path / 'b.json'), None) == MEASURED._replace(z_bytes=2)
    scaling.main(['--benchmark', str(tmp_path / 'b.json'), '--bandwidth', '1'])
    out = capsys.readouterr().out
    assert out.count('efficiency below 90%') == 3
    assert '64 clips on each GPU' in out


def test_the_table(capsys):
    scaling.main(['--step-seconds', '0.1', '--batch-size', '512', '--bandwidth', '1e9', '--latency', '0'])
    lines = capsys.readouterr().out.splitlines()
    assert '64       512         0.0 |' not in lines
    last = next(line for line in lines if line.split()[:2] == ['64', '8']).split()
    assert last[-2:] == ['327680', '100.0%']  # with no communication to wait for, 64 GPUs are 64 times one
    assert 'efficiency below 50%: nowhere up to 64 GPUs' in lines


def test_bad_input_is_one_line(mistake, tmp_path):
    assert 'required' in mistake(scaling.main, [])
    assert 'none.json' in mistake(scaling.main, ['--benchmark', tmp_path / 'none.json'])
    (tmp_path / 'text').write_text('text')
    assert 'not of tools.benchmark --json' in mistake(scaling.main, ['--benchmark', tmp_path / 'text'])
    path = benchmark_file(tmp_path / 'b.json')
    assert 'step in float32' in mistake(scaling.main, ['--benchmark', path, '--dtype', 'float32'])
    assert 'more than 0' in mistake(scaling.main, ['--step-seconds', 0])
    assert 'more than 0' in mistake(scaling.main, ['--step-seconds', 1, '--bandwidth', 0])
