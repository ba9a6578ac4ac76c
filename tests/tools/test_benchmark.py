"""The benchmark times what the project runs, and counts its FLOPs."""

import json

import pytest
import torch

from feeder.modalities import MODALITIES
from model.umurl import UmURL
from tools import benchmark
from tools.benchmark import STAGES, count_flops, measure, model_stages, print_row, synthetic_dataset

CPU = torch.device('cpu')


@pytest.fixture
def quick(monkeypatch):
    """Small sizes, and each stage timed for a moment only; the flags that go with them."""
    seconds_of = benchmark.seconds_of
    monkeypatch.setattr(benchmark, 'seconds_of', lambda work: seconds_of(work, 1e-9))
    monkeypatch.setattr(benchmark, 'PEAK_SIDE', {'cpu': 16})
    monkeypatch.setattr(benchmark, 'SIZES', {'cpu': (4, 8, 120, 10)})
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
        assert (row['flops'] > 0) == (row['of_peak'] is not None)
        if row['stage'] not in ('features', 'knn'):  # torch 2.4 counts nothing in inference mode
            assert (row['flops'] > 0) == (row['stage'] in multiply)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(report['rows'])


def test_the_page_about_a_gpu(quick, tmp_path):
    benchmark.main([*quick, '--gpu-report', str(tmp_path / 'report')])
    page = (tmp_path / 'report/report.md').read_text()
    assert [line for line in page.splitlines() if line.startswith('## ')][1:] == [
        '## Peaks',
        '## Stages',
        '## Runs',
        '## One step',
        '## Tests that need a GPU',
    ]
    rows = [line.split(' | ') for line in page.splitlines() if line.startswith('| ')]
    assert [row[0].strip('| ') for row in rows] == [
        'stage',
        *STAGES,
        'pretrain.py, 12 clips',
        '--batch-size 4 --amp off',
    ]
    assert all(float(number.strip(' |')) > 0 for number in rows[-1][1:])
    assert '\n0 waits' in page
    assert 'aten::addmm' in page
    assert [path.name for path in (tmp_path / 'report').iterdir()] == ['report.md']


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
        benchmark, 'UmURL', lambda *sizes: models.append(UmURL(*sizes)) or models[0]
    )
    rows = {}
    for stage in model_stages(synthetic_dataset(8), 8, 4, ['float32'], CPU):
        before = [parameter.detach().clone() for parameter in models[0].parameters()]
        rows[stage.name] = measure(stage, CPU)
        same = all(map(torch.equal, before, models[0].parameters()))
        assert same == (stage.name != 'step')
    assert (
        rows['step']['flops'] == rows['gradient']['flops'] > 3 * 6 * 2 * 4**2 * 4096
    )  # the Gram matrices alone
    assert rows['views']['flops'] == 0


def test_a_row(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, 'seconds_of', lambda work: (work(), 0.5)[1])
    monkeypatch.setattr(benchmark, 'PEAK_SIDE', {'cpu': 10})
    a = torch.ones(5, 5)
    row = measure(benchmark.Stage('name', 20, lambda: a @ a), CPU)
    assert row == {
        'stage': 'name',
        'dtype': 'float32',
        'seconds': 0.5,
        'clips_per_second': 40,
        'flops': 250,
        'flops_per_second': 500,
        'matmul_flops_per_second': 4000,
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
        '0.0',
        '12.5%',
    ]


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
