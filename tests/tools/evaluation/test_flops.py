"""The published costs, counted by torch and by formula; the table and the JSON file."""

import pytest
import torch

from feeder.modalities import MODALITIES
from model.umurl import UmURL
from tools import checkpoint
from tools.evaluation import flops

STREAMS = ((64, 150), (50, 192))  # tokens, and numbers per token, of both streams


def umurl(hidden_size):
    """The model without memory: only shapes count."""
    with torch.device('meta'):
        return UmURL(150, 192, hidden_size)


def test_published_parameters():
    counts = flops.parameters(umurl(1024))
    assert counts['backbone'] == pytest.approx(22.07e6, rel=0.005)
    assert counts['with projectors'] == pytest.approx(72.45e6, rel=0.005)


def test_published_flops():
    counts = flops.flops_per_clip(umurl(1024))
    paths = '1 modality', '3 modalities, fused', '3 uni-modal passes'
    assert [counts[path] / 1e9 for path in paths] == pytest.approx([1.740, 2.536, 5.220], rel=0.005)


def flops_by_formula(hidden):
    """2 per multiply-add of the matrix products, layer by layer."""

    def encode(modalities):
        return sum(
            2
            * tokens
            * (
                modalities * (width * hidden + hidden**2)  # embeddings
                + (hidden**2 if modalities > 1 else 0)  # fusion
                + 6 * hidden**2
                + 2 * tokens * hidden
            )  # q, k, v, out, feed-forward; attention
            for tokens, width in STREAMS
        )

    one, two, three = map(encode, (1, 2, 3))
    projection = 2 * (2 * (2 * hidden) ** 2 + 2 * hidden * 4096)
    forward = 3 * one + three + 6 * projection
    first_layers = 6 * sum(
        2 * tokens * width * hidden for tokens, width in STREAMS
    )  # their inputs need no gradient
    return {
        '1 modality': one,
        '2 modalities, fused': two,
        '3 modalities, fused': three,
        '2 uni-modal passes': 2 * one,
        '3 uni-modal passes': 3 * one,
        'pre-training, forward': forward,
        'pre-training, with backward': 3 * forward - first_layers,
    }


@pytest.mark.parametrize('hidden', [8, 32])
def test_counted_as_by_formula(hidden):
    assert flops.flops_per_clip(umurl(hidden)) == flops_by_formula(hidden)


def test_attention_is_counted_whatever_kernel_a_device_has():
    model = UmURL(150, 192, 8)
    streams = flops.random_streams(model.backbone, 1, 'cpu')
    counted = flops.count_flops(lambda: flops.encode(model.backbone, streams, [('joint',)]))
    assert counted == flops_by_formula(8)['1 modality']


def test_deeper_and_other_shapes_are_counted_as_they_are():
    """A second layer, with streams of 20 frames and 10 joints: its share by hand."""
    shallow, deep = (flops.flops_per_clip(UmURL(30, 60, 16, num_layer=layers)) for layers in (1, 2))
    layer = 2 * ((20 + 10) * 6 * 16**2 + 2 * (20**2 + 10**2) * 16)
    assert deep['1 modality'] - shallow['1 modality'] == layer


def test_the_table(tmp_path, capsys, monkeypatch):
    seconds = iter([0.001, 0.006] * len(flops.paths(tuple(MODALITIES))))
    monkeypatch.setattr(flops, 'seconds_of', lambda work, _: (work(), next(seconds))[1])
    model, path = UmURL(150, 192, 16), tmp_path / 'model.pth.tar'
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 1)
    flops.main(['--checkpoint', str(path), '--device', 'cpu', '--batch-size', '3'])
    table = capsys.readouterr().out
    assert 'hidden size 16' in table
    total = sum(p.numel() for p in model.parameters())
    assert f'{"parameters, with projectors":28}{total / 1e6:12.2f} M' in table
    times = f'{1:9.2f} ms{6:9.1f} ms{500:10.1f}\n'
    one_body = flops.flops_per_clip(model, 1)
    for path, count in flops_by_formula(16).items():
        assert 0.2 < 1 - one_body[path] / count < 0.45
        line = f'{path:28}{count / 1e9:12.3f}{100 * (1 - one_body[path] / count):10.1f} %'
        assert line + (times if path in flops.paths(tuple(MODALITIES)) else '\n') in table


def test_bad_input_is_one_line(mistake, tmp_path):
    assert 'no such checkpoint' in mistake(flops.main, ['--checkpoint', tmp_path / 'none.pth.tar'])
    (tmp_path / 'text.pth.tar').write_text('text')
    assert 'is not a' in mistake(flops.main, ['--checkpoint', tmp_path / 'text.pth.tar'])
    assert 'is a folder' in mistake(flops.main, ['--checkpoint', tmp_path])
    assert '7 is odd' in mistake(flops.main, ['--hidden-size', 7])
    assert 'not allowed with' in mistake(
        flops.main, ['--hidden-size', 8, '--checkpoint', tmp_path / 'x']
    )
    assert 'expected cpu, cuda' in mistake(flops.main, ['--hidden-size', 8, '--device', 'tpu'])
