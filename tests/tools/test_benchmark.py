"""The benchmark times what the project runs, and counts its FLOPs."""

import json

import pytest
import torch

from feeder.modalities import MODALITIES
from model.umurl import UmURL
from tools import benchmark
from tools.benchmark import (
    STAGES,
    Size,
    count_flops,
    measure,
    measure_peaks,
    model_stages,
    print_row,
    synthetic_dataset,
)

CPU = torch.device('cpu')
SMALL = Size(batch=4, clips=8, train=120, queries=10, side=16, copied=1000)


@pytest.fixture
def quick(monkeypatch):
    """Small sizes, and each stage timed for a moment only; the flags that go with them."""
    seconds_of = benchmark.seconds_of
    monkeypatch.setattr(benchmark, 'seconds_of', lambda work: seconds_of(work, 1e-9))
    monkeypatch.setattr(benchmark, 'SIZES', {'cpu': SMALL})
    return ['--device', 'cpu', '--hidden-size', '8']


def test_every_stage_has_a_row(quick, tmp_path, capsys):
    benchmark.main(
        [*quick, '--dtype', 'float32', 'bf16', '--json', str(tmp_path / 'new' / 'b.json')]
    )
    report = json.loads((tmp_path / 'new' / 'b.json').read_text())
    assert report['batch_size'] == 4
    stages = {
        dtype: [row['stage'] for row in report['rows'] if row['dtype'] == dtype]
        for dtype in ('float32', 'bf16')
    }
    assert stages == {'float32': list(STAGES), 'bf16': ['gradient', 'step', 'features']}
    multiply = {'gradient', 'step', 'features', 'probe', 'knn'}
    for row in report['rows']:
        assert row['seconds'] > 0
        assert (row['flops'] > 0) == (row['of_peak'] > 0)
        if row['stage'] not in ('features', 'knn'):  # torch 2.4 counts nothing in inference mode
            assert (row['flops'] > 0) == (row['stage'] in multiply)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + len(report['rows'])
    assert lines[1].startswith('peaks: torch.mm float32 ')
    assert report['peaks'].keys() == {'float32', 'bf16', 'copy'}


def test_only_the_wanted_stages(quick, tmp_path):
    benchmark.main(
        [
            *quick,
            '--batch-size',
            '2',
            '--stages',
            'knn',
            'gradient',
            '--json',
            str(tmp_path / 'b.json'),
        ]
    )
    report = json.loads((tmp_path / 'b.json').read_text())
    assert [row['stage'] for row in report['rows']] == ['gradient', 'knn']
    assert report['batch_size'] == 2


def test_flops_at_the_published_size():
    """For one clip, counted on the meta device, which computes nothing."""
    with torch.device('meta'):
        model = UmURL(150, 192, 1024)
    streams = {
        name: (torch.empty(2, 64, 150, device='meta'), torch.empty(2, 50, 192, device='meta'))
        for name in MODALITIES
    }
    forward = count_flops(lambda: model(streams, streams)) / 2
    step = count_flops(lambda: torch.stack(model(streams, streams)).sum().backward()) / 2
    assert forward / 1e9 == pytest.approx(7.957, abs=5e-4)
    assert step / 1e9 == pytest.approx(23.634, abs=5e-4)


def test_a_step_has_the_flops_of_its_gradient_and_changes_the_model(quick, monkeypatch):
    models = []
    monkeypatch.setattr(
        benchmark, 'UmURL', lambda *sizes, **more: models.append(UmURL(*sizes, **more)) or models[0]
    )
    rows = {}
    for stage in model_stages(synthetic_dataset(8), 8, 4, ['float32'], CPU):
        before = [parameter.detach().clone() for parameter in models[0].parameters()]
        rows[stage.name] = measure(stage, {'float32': 1e9})
        same = all(map(torch.equal, before, models[0].parameters()))
        assert same == (stage.name != 'step')
    assert (
        rows['step']['flops'] == rows['gradient']['flops'] > 3 * 6 * 2 * 4**2 * 4096
    )  # the Gram matrices alone
    assert rows['views']['flops'] == 0


def test_a_row(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, 'seconds_of', lambda work: (work(), 0.5)[1])
    a = torch.ones(5, 5)
    row = measure(benchmark.Stage('name', 20, lambda: a @ a), {'float32': 4000})
    assert row == {
        'stage': 'name',
        'dtype': 'float32',
        'seconds': 0.5,
        'clips_per_second': 40,
        'flops': 250,
        'flops_per_second': 500,
        'of_peak': 0.125,
    }
    print_row(row)
    assert capsys.readouterr().out.split() == [
        'name',
        'float32',
        '500.00',
        'ms',
        '40',
        '0.0',
        '12.5%',
    ]


def test_the_peaks(monkeypatch):
    works = []
    monkeypatch.setattr(benchmark, 'seconds_of', lambda work: works.append(work()) or 0.5)
    peaks = measure_peaks(SMALL, ['bf16'], CPU)
    assert peaks == {'float32': 4 * 16**3, 'bf16': 4 * 16**3, 'copy': 4 * 1000}
    assert [work.dtype for work in works] == [torch.float32, torch.bfloat16, torch.uint8]


def test_synthetic_clips_are_as_long_as_real_ones():
    dataset = synthetic_dataset(4000)
    assert dataset.num_frames.min() >= 20
    assert dataset.num_frames.max() <= 300
    assert dataset.num_frames.float().mean() == pytest.approx(84, abs=2)
    assert len(dataset.frames) == dataset.num_frames.sum()


def test_bad_input_is_one_line(mistake):
    assert 'odd' in mistake(benchmark.main, ['--hidden-size', 7])
    assert 'at least 2' in mistake(benchmark.main, ['--batch-size', 1])
    assert 'invalid choice' in mistake(benchmark.main, ['--stages', 'nonsense'])
    assert 'expected cpu, cuda' in mistake(benchmark.main, ['--device', 'tpu'])
