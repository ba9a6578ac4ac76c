"""A step by other ways than the plain one: in parts, compiled, in bf16, from other memory; the losses are the same."""
import copy
import shutil
from functools import partial

import pytest
import torch

from data_gen.cli import InputError
from feeder.feeders import PretrainFeeder
from feeder.placement import Staged
from model.objective import umurl_objective
from model.umurl import FusedViews, UmURL
from tools import training
from tools.training import compiled, train_step

CPU = torch.device('cpu')
STEPS = 3


@pytest.fixture(scope='module')
def clips(made_store):
    return made_store([80] * 6 + [200] * 6)


@pytest.fixture(scope='module')
def initial():
    torch.manual_seed(0)
    return UmURL(150, 192, 16)


def run(model, clips, parts=1, source=None, dtype=None, compile=False):
    """The losses (steps, 4) of a few steps, and the model behind them."""
    model, objective = copy.deepcopy(model), umurl_objective
    model.parts = parts
    feeder = PretrainFeeder(clips, 4, seed=0, fused_only=isinstance(model, FusedViews))
    feeder.source = source or feeder.source
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    scaler = torch.amp.GradScaler('cpu', enabled=False)
    trained = model
    if compile:
        trained, objective = compiled(model, objective)
    losses = [train_step(trained, batch, optimizer, scaler, dtype, objective=objective) for batch in feeder.epoch(0)]
    assert len(losses) == STEPS
    return torch.stack(losses), model


@pytest.fixture(scope='module')
def plain(initial, clips):
    return run(initial, clips)


def test_losses_are_those_of_the_model_before_each_step(initial, clips, plain):
    batch = next(PretrainFeeder(clips, 4, seed=0).epoch(0))
    expected = torch.stack(umurl_objective(copy.deepcopy(initial)(*batch)))
    torch.testing.assert_close(plain[0][0], expected.detach())
    assert plain[0][:, 3].unique().numel() == STEPS


@pytest.mark.parametrize('parts', [2, 3, 4])
def test_a_batch_in_parts_is_the_same_step(initial, clips, plain, parts):
    losses, model = run(initial, clips, parts)
    torch.testing.assert_close(losses[0], plain[0][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(losses, plain[0], rtol=1e-4, atol=1e-4)  # Adam makes large steps of rounding
    assert model.j_projector[1].num_batches_tracked == plain[1].j_projector[1].num_batches_tracked == 2 * STEPS


@pytest.mark.parametrize('parts', [2, 5])
def test_a_batch_in_parts_has_the_same_gradient(initial, clips, parts):
    batch, gradients = next(PretrainFeeder(clips, 5, seed=0).epoch(0)), []
    for model in (copy.deepcopy(initial).double(), copy.deepcopy(initial).double()):
        model.parts = 1 if not gradients else parts
        halves = [{name: tuple(stream.double() for stream in pair) for name, pair in half.items()} for half in batch]
        sum(z.square().mean() + z[0].sum() for z in model(*halves)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plainly, in_parts in zip(*gradients, strict=True):
        torch.testing.assert_close(in_parts, plainly, rtol=1e-9, atol=1e-12)


def test_parts_keep_less_for_the_backward(initial, clips):
    """What autograd keeps of the encoder, in bytes: of a batch in parts only what goes into each part."""
    batch, kept = next(PretrainFeeder(clips, 4, seed=0).epoch(0)), []
    for parts in (1, 4):
        model, held = copy.deepcopy(initial), {}
        model.parts = parts

        def pack(tensor, held=held):
            held[tensor.data_ptr()] = tensor.nbytes
            return tensor
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = model.encode_views(*({name: pair} for name, pair in batch[0].items()), batch[1])
        kept.append(sum(held.values()))
        assert features[0].requires_grad
    assert kept[1] < kept[0] / 2


def test_clips_in_host_memory_are_the_same_step(initial, clips, plain):
    losses, _ = run(initial, clips, source=Staged(clips, CPU))
    assert losses.equal(plain[0])


def test_bf16_is_the_same_to_its_precision(initial, clips, plain):
    losses, model = run(initial, clips, dtype=torch.bfloat16)
    torch.testing.assert_close(losses, plain[0], rtol=0.05, atol=0.02)
    assert not losses.equal(plain[0])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize('parts', [1, 2])
def test_traced_for_compilation_it_is_the_same_step(initial, clips, plain, monkeypatch, parts):
    """Without the code generation, which takes minutes."""
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='aot_eager'))
    losses, model = run(initial, clips, parts, compile=True)
    torch.testing.assert_close(losses[0], plain[0][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(losses, plain[0], rtol=1e-4, atol=1e-4)
    assert model.state_dict().keys() == initial.state_dict().keys()


@pytest.mark.skipif(not shutil.which('g++'), reason='torch.compile needs a C++ compiler')
def test_compiled_objective_has_the_same_value_and_gradient():
    z = torch.randn(6, 8, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    objective, = compiled(umurl_objective)
    plain, made = umurl_objective(z), objective(z)
    torch.testing.assert_close(torch.stack(made), torch.stack(plain), rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(losses.total, z)[0] for losses in (made, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_compiling_without_a_compiler_is_a_mistake(monkeypatch):
    monkeypatch.setattr(training.shutil, 'which', lambda name: None)
    with pytest.raises(InputError, match='--compile needs a C'):
        compiled(umurl_objective)
