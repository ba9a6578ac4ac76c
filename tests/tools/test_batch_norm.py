"""BatchNorm over a process group of one: torch's own numbers. Two processes: see
test_distributed.py.
"""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tools.batch_norm import GlobalBatchNorm, synchronize


@pytest.fixture(autouse=True)
def group():
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def norms():
    """A BatchNorm1d with random parameters in a Sequential, and the same with ours."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.BatchNorm1d(6))
    nn.init.normal_(plain[0].weight)
    nn.init.normal_(plain[0].bias)
    ours = copy.deepcopy(plain)
    synchronize(ours)
    assert isinstance(ours[0], GlobalBatchNorm)
    return plain, ours


def step(norm, x):
    """Output of a training step, and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).square().sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in norm.parameters())]


@pytest.mark.parametrize(
    ('dtype', 'offset', 'tolerance'),
    [
        (torch.float64, 0, 1e-12),
        (torch.float32, 0, 1e-5),
        (torch.float32, 100, 1e-4),
        (torch.bfloat16, 0, 0.02),
    ],
)
def test_training_and_evaluation_are_torchs(norms, dtype, offset, tolerance):
    if dtype == torch.float64:
        norms = [norm.double() for norm in norms]
    x = (torch.randn(9, 6, dtype=torch.float64) + offset).to(dtype)
    for _ in range(3):
        plain, ours = (step(norm, x) for norm in norms)
        torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
    plain, ours = (norm.state_dict() for norm in norms)
    assert list(plain) == list(ours)
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
    plain, ours = (norm.eval()(x) for norm in norms)
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)


def test_one_message_each_way(norms, monkeypatch):
    messages, all_reduce = [], dist.all_reduce
    monkeypatch.setattr(
        dist, 'all_reduce', lambda tensor: messages.append(tensor.shape) or all_reduce(tensor)
    )
    step(norms[1], torch.randn(4, 6))
    assert messages == [(2, 6), (2, 6)]


def test_a_large_mean_costs_no_digits(norms):
    """Against float64; the difference of float32 mean square and squared mean would be off by about
    1.
    """
    x = torch.randn(64, 6) + 1000
    step(norms[1], x)
    expected = 0.9 + 0.1 * x.double().var(0)
    torch.testing.assert_close(norms[1][0].running_var.double(), expected, rtol=1e-5, atol=0)


def test_only_batch_norms_are_replaced_and_their_parameters_stay(norms):
    model = nn.Sequential(nn.Linear(3, 6), norms[0].requires_grad_(False)).eval()
    parameters = list(model.parameters())
    synchronize(model)
    assert all(map(lambda new, old: new is old, model.parameters(), parameters))
    assert not model[1][0].training
    assert not model[1][0].weight.requires_grad
