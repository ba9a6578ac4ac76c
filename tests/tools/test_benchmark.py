"""What the benchmark counts, that it times what the project runs, and its table."""
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from feeder.feeders import SIZE, generator_at
from feeder.modalities import MODALITIES
from model.objective import umurl_objective
from model.umurl import Projections, UmURL
from tools import benchmark, benchmark_report, costs, yardsticks
from tools.benchmark_stages import Stage, made_clips
from tools.benchmark_training import BEFORE, Training
from tools.training import train_step

CPU = torch.device('cpu')
ARGS = Namespace(batch_size=6, hidden_size=8, compile=False, dtype=['float32'])


class StillMachine:
    """Peaks that do not change: 1 TFLOP/s and 10 GB/s."""
    device = CPU

    def matmul(self, dtype):
        return 1e12

    def copy(self):
        return 1e10


def training(dtype='float32'):
    return Training(made_clips(6), ARGS, dtype, CPU)


def counted(work):
    """FLOPs of a call as torch counts them, attention as plain matrix products."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


def test_flops_are_those_that_torch_counts():
    model = UmURL(150, 192, 16)
    streams = {modality: (torch.randn(2, 64, 150), torch.randn(2, 50, 192)) for modality in MODALITIES}
    for count in (1, 2, 3):
        chosen = {modality: streams[modality] for modality in MODALITIES[:count]}
        assert costs.encode_flops(16, count) == counted(lambda chosen=chosen: model.backbone.encode(chosen)) / 2
    assert costs.forward_flops(16) == counted(lambda: model(streams, streams)) / 2
    step = counted(lambda: torch.stack(model(streams, streams)).sum().backward()) / 2
    assert costs.step_flops(16) - costs.input_flops(16) == step


def test_flops_at_the_published_size():
    assert costs.encode_flops(1024) / 1e9 == pytest.approx(1.740, abs=5e-4)
    assert costs.encode_flops(1024, 3) / 1e9 == pytest.approx(2.536, abs=5e-4)
    assert costs.step_flops(1024) / 1e9 == pytest.approx(23.9, abs=.05)
    assert costs.input_flops(1024) / costs.step_flops(1024) < .011


def test_flops_of_the_objective():
    z = torch.randn(6, 5, 4096, requires_grad=True)
    assert costs.objective_flops(5) == counted(lambda: umurl_objective(Projections(*z)).total.backward())


def test_bytes():
    assert costs.optimizer_bytes(8) == 7 * 4 * sum(p.numel() for p in UmURL(150, 192, 8).parameters())
    frames = 3 * SIZE * 150 * 4  # of three clips
    assert costs.view_bytes(3) == 4 * frames + (3 + 3) * 2 * frames


def test_synthetic_clips_are_as_long_as_real_ones():
    clips = made_clips(4000)
    assert clips.length.min() >= 20
    assert clips.length.max() <= 300
    assert clips.length.float().mean() == pytest.approx(84, abs=2)
    assert len(clips.frames) == clips.length.sum()


@pytest.mark.parametrize('dtype', ['float32', 'bf16', 'fp16'])
def test_the_parts_make_the_step(dtype):
    """Timed by themselves or together, they leave the same model."""
    parts, whole = training(dtype), training(dtype)
    parts.views()
    for _ in range(2):
        for part in ('forward', 'value_and_gradient', 'backward', 'update'):
            getattr(parts, part)()
        train_step(whole.trained, parts.batch, whole.optimizer, whole.scaler, whole.amp)
    for mine, theirs in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        assert mine.equal(theirs)


@pytest.mark.parametrize('part', BEFORE)
def test_a_part_can_be_timed_alone(part):
    made = training()
    for _ in range(2):
        made.ready(part)
        getattr(made, part)()


def test_what_is_there_is_not_made_again():
    made = training()
    made.ready('backward')
    batch, z = made.batch, made.z
    made.ready('backward')
    assert made.batch is batch
    assert made.z is z


def test_steps_train():
    made = training()
    before = made.model.j_projector[0].weight.clone()
    made.steps()
    assert not made.model.j_projector[0].weight.equal(before)


def test_yardstick_of_the_objective_is_the_objective():
    z = torch.randn(6, 9, 64, generator=generator_at(0, 0), dtype=torch.float64)
    assert yardsticks.wide_objective(z).item() == pytest.approx(umurl_objective(Projections(*z)).total.item(), rel=1e-5)


def test_yardstick_of_the_views_makes_such_a_batch():
    made = training()
    made.views()
    alone = [torch.randn(frames, 2, 25, 3) for frames in (20, 70, 300, 64, 65, 90)]
    uni, fused = yardsticks.batch_one_by_one(alone, np.random.default_rng(0), CPU)
    for mine, theirs in zip((uni, fused), made.batch, strict=True):
        assert {name: [stream.shape for stream in pair] for name, pair in mine.items()} == \
            {name: [stream.shape for stream in pair] for name, pair in theirs.items()}


def test_the_best_of_short_calls_and_one_long_call(monkeypatch):
    seconds = iter([.09, .05, .07, 3.])
    monkeypatch.setattr(yardsticks, 'clock', lambda work, device: (work(), next(seconds))[1])
    calls = []
    assert yardsticks.best(lambda: calls.append('work'), CPU, lambda: calls.append('ready')) == .05
    assert calls == ['ready', 'work'] * 3
    assert yardsticks.best(lambda: None, CPU) == 3


def test_peaks_are_rates(monkeypatch):
    monkeypatch.setattr(yardsticks, 'best', lambda work, device: (work(), .5)[1])
    machine = yardsticks.Machine(CPU, 8, 1)
    machine.source = machine.target = torch.zeros(10)
    machine.shapes = ((4, 8, 24), (16, 2, 3))
    assert machine.copy() == 2 * 40 / .5
    assert machine.matmul('bf16') == 2 * 4 * 8 * 24 / .5
    machine.keep('copy', 480)
    assert machine.peaks() == {'copy': 320, 'matmul bf16': 3072}


def test_a_stage_is_held_against_what_bounds_it(monkeypatch):
    peaks = {'float32': 1e12, 'copy': 1e10}
    assert benchmark.bound(Stage('', None, 1, flops=1e12, bytes=9e9), peaks) == 'compute'
    assert benchmark.bound(Stage('', None, 1, flops=1e12, bytes=11e9), peaks) == 'memory'
    monkeypatch.setattr(benchmark, 'best', lambda work, device, ready=None: work())
    stage = Stage('', lambda: 4, 10, flops=5e11, bytes=5e9, calls=2, yardstick=lambda: 1, times=8)
    assert benchmark.timed(stage, 'compute', StillMachine()) == (2, 1e12, .25, 8)
    assert benchmark.timed(stage, 'memory', StillMachine()) == (2, 1e10, .25, 8)
    row = benchmark.row(stage, 'compute', [(2, 1e12, .25, 8), (4, 1e12, .125, 8), (1, 1e12, .5, 8)])
    assert (row['seconds'], row['clips_per_second'], row['flops_per_second'], row['of_peak'], row['ratio']) == \
        (2, 5, 2.5e11, .25, .25)


def test_findings():
    rows = [{'stage': stage, 'dtype': dtype, 'seconds': seconds, 'flops': flops, 'clips_per_second': 1e3, 'of_peak': .6}
            for stage, dtype, seconds, flops in [
                ('views', 'float32', 1, 0), ('objective', 'float32', 2, 1e9), ('optimizer', 'float32', 1, 0),
                ('forward', 'float32', 7, 3e9), ('backward', 'float32', 10, 6e9), ('step', 'float32', 20, 10e9),
                ('step', 'bf16', 8, 10e9)]]
    found = list(benchmark_report.findings(rows, {'matmul float32': 6e8, 'matmul bf16': 2e9}))
    assert found == [
        'float32: forward, backward, objective and optimizer: 75.0% of the matrix product peak',
        'float32: views, objective and optimizer: 19.0% of a step',
        'float32: views: 4.8% of a step',
        'float32: whole step at 60.0% of the matrix product peak; NTU-60 x-sub, 451 epochs of 40091 clips, would take '
        '5.02 hours',
        'bf16: whole step at 60.0% of the matrix product peak; NTU-60 x-sub, 451 epochs of 40091 clips, would take '
        '5.02 hours',
        'bf16: whole step 2.50 times as fast as in float32']


@pytest.fixture
def quick(monkeypatch):
    """One call of each work, and peaks of small things."""
    monkeypatch.setattr(yardsticks, 'LEAST', 1e-9)

    def small(self, device, hidden_size, batch_size):
        self.device, self.shapes, self.measured = device, ((16, 16, 16),), {}
        self.source, self.target = torch.zeros(100), torch.zeros(100)
    monkeypatch.setattr(yardsticks.Machine, '__init__', small)
    return ['--device', 'cpu', '--hidden-size', '8', '--batch-size', '4', '--clips', '8', '--train-clips', '40',
            '--val-clips', '10', '--classes', '5', '--repeats', '2']


def test_the_whole_table(quick, tmp_path, capsys):
    benchmark.main([*quick, '--dtype', 'float32', 'bf16', '--json', str(tmp_path / 'made/b.json'),
                    '--profile', str(tmp_path / 'trace.json')])
    made = json.loads((tmp_path / 'made/b.json').read_text())
    assert [row['stage'] for row in made['rows'] if row['dtype'] == 'float32'] == list(benchmark.STAGES)
    again = [row['stage'] for row in made['rows'] if row['dtype'] == 'bf16']
    assert again == ['forward', 'backward', 'step', 'features']
    assert {'copy', 'matmul float32', 'matmul bf16'} <= made['peaks'].keys()
    for row in made['rows']:
        assert row['clips_per_second'] == pytest.approx(row['clips'] / row['seconds'])
        assert row['flops'] or row['bytes']
        assert row['of_peak'] > 0
    against = {row['stage']: row['against'] for row in made['rows'] if 'ratio' in row}
    assert against == {'read': 'numpy text parse', 'normalise': 'numpy text parse', 'views': 'clip by clip',
                       'objective': 'D x D form', 'probe': 'encoder run each epoch'}
    out = capsys.readouterr().out
    assert 'bf16: whole step' in out
    assert out.splitlines()[-1].split()[0].endswith('%')
    assert json.loads((tmp_path / 'trace.json').read_text())['traceEvents']


def test_chosen_stages_alone(quick, tmp_path):
    benchmark.main([*quick, '--stages', 'knn', 'backward', '--json', str(tmp_path / 'b.json')])
    rows = json.loads((tmp_path / 'b.json').read_text())['rows']
    assert [row['stage'] for row in rows] == ['backward', 'knn']


@pytest.mark.parametrize('compiled', [False, True])
def test_what_is_compiled_is_not_timed_at_its_first_call(quick, monkeypatch, compiled):
    calls = []
    monkeypatch.setattr(benchmark, 'chosen_stages', lambda *_: [Stage('step', lambda: calls.append(1), 1, flops=1.)])
    args = benchmark.parse(quick + ['--compile'] * compiled)
    benchmark.measured(args, yardsticks.Machine(CPU, 8, 4), CPU)
    assert len(calls) == args.repeats + compiled


def test_bad_input_is_one_line(mistake, tmp_path):
    assert 'must be even' in mistake(benchmark.main, ['--hidden-size', 7])
    assert 'at least 2' in mistake(benchmark.main, ['--batch-size', 1])
    assert 'invalid choice' in mistake(benchmark.main, ['--stages', 'nonsense'])
    assert 'no .skeleton files' in mistake(benchmark.main, ['--stages', 'read', '--recordings', tmp_path])
    assert 'expected cpu, cuda' in mistake(benchmark.main, ['--device', 'tpu'])
