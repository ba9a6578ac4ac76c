"""The training step in other ways than the plain one: in chunks, compiled, in bf16, from host
memory. Same losses.
"""

import copy
import shutil
from functools import partial

import pytest
import torch

import pretrain
from feeder.feeders import PretrainFeeder, views_of
from feeder.modalities import MODALITIES
from feeder.prefetch import Prefetcher, Resident
from model.objective import Weights, umurl_objective
from model.umurl import EarlyFusionBaseline, UmURL
from tools.training import compilation
from tools.training.compilation import compiled
from tools.training.monitor import Monitor
from tools.training.state import TrainState

CPU = torch.device('cpu')
STEPS = 3


@pytest.fixture(scope='module')
def clips(random_dataset):
    return random_dataset([80] * 6 + [200] * 6)


@pytest.fixture(scope='module')
def initial():
    torch.manual_seed(0)
    return UmURL(150, 192, 16)


def run(
    model,
    clips,
    chunks=1,
    source=None,
    dtype=None,
    compile=False,
    device=CPU,
    lr=1e-3,
    each_step=lambda: None,
):
    """The losses (steps, 4) of one short epoch, and the model after it."""
    model, objective, losses = copy.deepcopy(model).to(device), umurl_objective, []
    model.encoder_chunks = chunks
    source = source or Resident(clips, device)
    views = views_of(MODALITIES, fused_only=isinstance(model, EarlyFusionBaseline))
    feeder = PretrainFeeder(clips, 4, seed=0, views=views, source=source)
    optimizer = torch.optim.Adam(model.parameters(), lr, fused=True)
    loss_scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    if compile:
        objective = compiled(model, objective, device)

    def recording(projections, weights):
        values = objective(projections, weights)
        losses.append(torch.stack(values).detach())
        return values

    projections = 2 if isinstance(model, EarlyFusionBaseline) else 6
    monitor = Monitor(device, range(projections), loss_scaler.is_enabled())
    state = TrainState(model, optimizer, loss_scaler, monitor)
    losses_of = pretrain.build_losses(model, recording, Weights(), dtype, device)
    pretrain.train_one_epoch(state, feeder, losses_of, each_step)
    assert len(losses) == state.step == STEPS
    return torch.stack(losses), model


@pytest.fixture(scope='module')
def plain(initial, clips):
    return run(initial, clips)


def test_losses_are_those_of_the_model_before_each_step(initial, clips, plain):
    batch = next(PretrainFeeder(clips, 4, seed=0).epoch(0))
    expected = torch.stack(umurl_objective(copy.deepcopy(initial)(*batch)))
    torch.testing.assert_close(plain[0][0], expected.detach())
    assert plain[0][:, 3].unique().numel() == STEPS


@pytest.mark.parametrize('chunks', [2, 3, 4])
def test_a_batch_in_chunks_is_the_same_step(initial, clips, plain, chunks):
    losses, model = run(initial, clips, chunks)
    torch.testing.assert_close(losses[0], plain[0][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        losses, plain[0], rtol=1e-4, atol=1e-4
    )  # Adam makes large steps of rounding
    assert (
        model.j_projector[1].num_batches_tracked
        == plain[1].j_projector[1].num_batches_tracked
        == 2 * STEPS
    )


@pytest.mark.parametrize('chunks', [2, 5])
def test_a_batch_in_chunks_has_the_same_gradient(initial, clips, chunks):
    batch, gradients = next(PretrainFeeder(clips, 5, seed=0).epoch(0)), []
    for model in (copy.deepcopy(initial).double(), copy.deepcopy(initial).double()):
        model.encoder_chunks = 1 if not gradients else chunks
        halves = [
            {name: tuple(stream.double() for stream in pair) for name, pair in half.items()}
            for half in batch
        ]
        sum(z.square().mean() + z[0].sum() for z in model(*halves)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plainly, in_chunks in zip(*gradients, strict=True):
        torch.testing.assert_close(in_chunks, plainly, rtol=1e-9, atol=1e-12)


def test_chunks_keep_less_for_the_backward(initial, clips):
    """What autograd keeps of the encoder, in bytes: of a batch in chunks only what enters each
    chunk.
    """
    batch, kept = next(PretrainFeeder(clips, 4, seed=0).epoch(0)), []
    for chunks in (1, 4):
        model, saved = copy.deepcopy(initial), {}
        model.encoder_chunks = chunks

        def pack(tensor, saved=saved):
            saved[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = model.encode_views(
                *({name: pair} for name, pair in batch[0].items()), batch[1]
            )
        kept.append(sum(saved.values()))
        assert features[0].requires_grad
    assert kept[1] < kept[0] / 2


def test_clips_in_host_memory_are_the_same_step(initial, clips, plain):
    losses, _ = run(initial, clips, source=Prefetcher(clips, CPU))
    assert losses.equal(plain[0])


def test_bf16_is_the_same_to_its_precision(initial, clips, plain):
    losses, model = run(initial, clips, dtype=torch.bfloat16)
    torch.testing.assert_close(losses, plain[0], rtol=0.05, atol=0.02)
    assert not losses.equal(plain[0])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize('chunks', [1, 2] if torch.__version__ >= '2.13' else [1])
def test_traced_for_compilation_it_is_the_same_step(initial, clips, plain, monkeypatch, chunks):
    """Without the code generation, which takes minutes; fullgraph: without a break in the traced
    code.
    """
    monkeypatch.setattr(
        torch, 'compile', partial(torch.compile, backend='aot_eager', fullgraph=True)
    )
    monkeypatch.setattr(compilation.shutil, 'which', lambda name: name)
    losses, model = run(initial, clips, chunks, compile=True)
    torch.testing.assert_close(losses[0], plain[0][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(losses, plain[0], rtol=1e-4, atol=1e-4)
    assert model.state_dict().keys() == initial.state_dict().keys()


@pytest.mark.skipif(not shutil.which('g++'), reason='torch.compile needs a C++ compiler')
def test_compiled_objective_has_the_same_value_and_gradient():
    z = torch.randn(6, 8, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    objective = compiled(UmURL(150, 192, 8), umurl_objective, CPU)
    plain, compiled_losses = umurl_objective(z), objective(z)
    torch.testing.assert_close(torch.stack(compiled_losses), torch.stack(plain), rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(losses.total, z)[0] for losses in (compiled_losses, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_chunks_are_not_compiled_by_an_older_torch(initial, monkeypatch, capsys):
    monkeypatch.setattr(torch, '__version__', torch.torch_version.TorchVersion('2.9.1+cpu'))
    monkeypatch.setattr(compilation.shutil, 'which', lambda name: name)
    model = copy.deepcopy(initial)
    model.encoder_chunks = 2
    assert compiled(model, umurl_objective, CPU) is umurl_objective
    assert '--compile needs torch 2.13 for --encoder-chunks' in capsys.readouterr().err


@pytest.mark.parametrize(('kind', 'missing'), [('cpu', 'g++'), ('cuda', 'gcc')])
def test_without_a_compiler_training_goes_on(initial, monkeypatch, capsys, kind, missing):
    monkeypatch.setattr(compilation.shutil, 'which', lambda name: None)
    assert compiled(copy.deepcopy(initial), umurl_objective, torch.device(kind)) is umurl_objective
    assert f'--compile needs {missing}' in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')
class TestOnAGpu:
    """What only a GPU can show; run by python -m pytest -m cuda. Draws differ from a CPU's, so
    losses do, too.
    """

    GPU = torch.device('cuda', 0)

    @pytest.fixture(scope='class')
    def on_gpu(self, initial, clips):
        return run(initial, clips, device=self.GPU, lr=1e-4)[0]

    @pytest.mark.parametrize(
        ('options', 'tolerance'),
        [
            ({'source': Prefetcher}, 1e-5),
            ({'compile': True}, 1e-3),
            ({'dtype': torch.bfloat16}, 3e-2),
            ({'dtype': torch.float16}, 3e-2),
            ({'dtype': torch.bfloat16, 'compile': True}, 3e-2),
        ],
        ids=str,
    )
    def test_other_ways_to_the_same_losses(self, initial, clips, on_gpu, options, tolerance):
        made = {
            name: value(clips, self.GPU) if name == 'source' else value
            for name, value in options.items()
        }
        losses, _ = run(initial, clips, device=self.GPU, lr=1e-4, **made)
        torch.testing.assert_close(losses[:, 3], on_gpu[:, 3], rtol=tolerance, atol=0)

    def test_no_step_waits(self, initial, clips):
        """From the second step on: the first sets the optimizer up."""
        try:
            run(
                initial,
                clips,
                dtype=torch.bfloat16,
                device=self.GPU,
                each_step=lambda: torch.cuda.set_sync_debug_mode('error'),
            )
        finally:
            torch.cuda.set_sync_debug_mode('default')
