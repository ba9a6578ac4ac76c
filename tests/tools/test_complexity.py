"""The published costs, counted; and what is timed."""
import json

import pytest
import torch

from model.umurl import UmURL
from tools import checkpoint, complexity, costs


@pytest.fixture(autouse=True)
def on_meta(request):
    """Models are made without memory: only shapes count. Not where `real` is asked for."""
    with torch.device('cpu' if 'real' in request.fixturenames else 'meta'):
        yield


@pytest.fixture
def real():
    """Models with weights."""


@pytest.fixture
def published():
    """The model at its published width."""
    return complexity.new_model(1024)


def test_published_parameters(published):
    counts = complexity.parameters(published)
    assert counts['backbone'] == pytest.approx(22.07e6, rel=0.005)
    assert counts['with projectors'] == pytest.approx(72.45e6, rel=0.005)


def test_published_flops(published):
    counts = complexity.flops(published)
    paths = 'one modality', 'three modalities, fused', 'three uni-modal passes'
    assert [counts[path] / 1e9 for path in paths] == pytest.approx([1.740, 2.536, 5.220], rel=0.005)


def flops_by_formula(hidden):
    one, two, three = (costs.encode_flops(hidden, modalities) for modalities in (1, 2, 3))
    return {'one modality': one, 'two modalities, fused': two, 'three modalities, fused': three,
            'two uni-modal passes': 2 * one, 'three uni-modal passes': 3 * one,
            'pre-training, forward': costs.forward_flops(hidden),
            'pre-training, with backward': costs.step_flops(hidden) - costs.input_flops(hidden)}


@pytest.mark.parametrize('hidden', [8, 32])
def test_counted_as_by_formula(hidden):
    assert complexity.flops(complexity.new_model(hidden)) == flops_by_formula(hidden)


def test_counted_on_a_device_as_without_one(real):
    """Attention too, whatever kernel a device has for it."""
    assert complexity.flops(complexity.new_model(8)) == flops_by_formula(8)


def test_deeper_and_other_shapes_are_counted_as_they_are():
    """A second layer, and streams of 20 frames of 10 joints: the encoder's share by hand."""
    shallow, deep = (complexity.flops(UmURL(30, 60, 16, num_layer=layers))['one modality'] for layers in (1, 2))
    assert deep - shallow == 2 * ((20 + 10) * 6 * 16 ** 2 + 2 * (20 ** 2 + 10 ** 2) * 16)


def test_median_time_leaves_out_the_warm_up(monkeypatch):
    """Two slow first runs, then 1 2 3 4 9 seconds of a made clock."""
    seconds = [100, 50, 1, 2, 3, 4, 9]
    clock = [0]
    monkeypatch.setattr(complexity.time, 'perf_counter', lambda: clock[0])

    def work():
        clock[0] += seconds.pop(0)
    assert complexity.median_time(work, torch.device('cpu')) == 3
    assert not seconds


def test_the_table_and_the_json(real, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(complexity, 'SECONDS', 0)
    model, path = complexity.new_model(16), tmp_path / 'model.pth.tar'
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 1)
    out = tmp_path / 'made' / 'costs.json'
    complexity.main(['--checkpoint', str(path), '--device', 'cpu', '--batch-size', '3', '--json', str(out)])
    costs = json.loads(out.read_text())
    assert costs['hidden_size'] == 16
    assert costs['parameters']['with projectors'] == sum(p.numel() for p in model.parameters())
    assert costs['flops'] == flops_by_formula(16)
    for time in costs['times'].values():
        assert time['clip'] > 0
        assert time['clips_per_second'] == pytest.approx(3 / time['batch'])
    table = capsys.readouterr().out
    assert 'hidden size 16' in table
    for path, count in costs['flops'].items():
        assert f'{path:28}{count / 1e9:12.3f}' in table


def test_bad_input_is_one_line(real, mistake, tmp_path):
    assert 'no such checkpoint' in mistake(complexity.main, ['--checkpoint', tmp_path / 'none.pth.tar'])
    (tmp_path / 'text.pth.tar').write_text('text')
    assert 'is not a' in mistake(complexity.main, ['--checkpoint', tmp_path / 'text.pth.tar'])
    assert 'is a folder' in mistake(complexity.main, ['--checkpoint', tmp_path])
    assert '7 is odd' in mistake(complexity.main, ['--hidden-size', 7])
    assert 'not allowed with' in mistake(complexity.main, ['--hidden-size', 8, '--checkpoint', tmp_path / 'x'])
    assert 'expected cpu, cuda' in mistake(complexity.main, ['--hidden-size', 8, '--device', 'tpu'])
