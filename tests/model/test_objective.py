"""The objective: by D x D covariance matrices, and the recorded losses, gradients and optimizer
steps.
"""

import pytest
import torch

from model.objective import Losses, Weights, umurl_objective, variance_covariance

LR, STEPS = 5e-4, 6


def naive_variance_covariance(z):
    """Of one z (B, D), as the specification words it, by its covariance matrix."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    off_diagonal = covariance[~torch.eye(z.shape[1], dtype=torch.bool)]
    hinge = torch.relu(1 - torch.sqrt(z.var(0, unbiased=True) + 1e-4)).mean()
    return 5 * hinge + off_diagonal.square().sum() / z.shape[1]


def naive_objective(z):
    uni, fused = z[:3], z[3:]
    mean = (uni[0] + uni[1] + uni[2]) / 3
    intra = sum(((a - b) ** 2).mean() for a, b in zip(uni, fused, strict=True))
    inter = sum(((a - mean) ** 2).mean() for a in uni)
    reg = sum(naive_variance_covariance(one) for one in z)
    return Losses(intra, inter, reg, 5 * (intra + inter) + reg)


def made(batch, size, dtype=torch.float64):
    """Six z's (B, D) with correlated columns, some of which vary more than 1."""
    z = torch.randn(6, batch, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (z.cumsum(-1) * torch.linspace(0.1, 0.6, size)).to(dtype)


def with_gradient(function, z):
    """The value, and its gradient with respect to z."""
    z = z.clone().requires_grad_()
    value = function(z)
    return value.detach(), torch.autograd.grad(value, z)[0]


def assert_same(actual, expected, relative):
    """Equal to `relative` times the largest value expected."""
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=0, atol=relative * expected.abs().max().item()
    )


@pytest.mark.parametrize(('dtype', 'relative'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize('shape', [(6, 200), (64, 64), (200, 12), (2, 5)], ids=str)
def test_variance_covariance_equals_the_matrix_form(shape, dtype, relative):
    z = made(*shape)[0]
    for result, expected in zip(
        with_gradient(variance_covariance, z.to(dtype)),
        with_gradient(naive_variance_covariance, z),
        strict=True,
    ):
        assert result.dtype == dtype
        assert_same(result, expected, relative)


def test_variance_covariance_of_several_at_once():
    z = made(8, 20)
    torch.testing.assert_close(
        variance_covariance(z), torch.stack([naive_variance_covariance(one) for one in z])
    )


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('shape', [(8, 200), (128, 20)], ids=str)
@pytest.mark.parametrize('term', Losses._fields)
def test_objective_equals_the_naive_one(term, shape, dtype):
    z = made(*shape)
    value, gradient = with_gradient(lambda z: getattr(umurl_objective(tuple(z)), term), z.to(dtype))
    expected, expected_gradient = with_gradient(lambda z: getattr(naive_objective(z), term), z)
    assert_same(value, expected, 1e-5)
    assert_same(gradient, expected_gradient, 1e-5)


@pytest.mark.parametrize('field', Weights._fields)
def test_each_weight_is_of_its_own_term(field):
    z = made(8, 20)
    alone = umurl_objective(z, Weights(0, 0, 0, 0)._replace(**{field: 2}))
    all_but = umurl_objective(z, Weights()._replace(**{field: 0}))
    naive = naive_objective(z)
    hinge = sum(torch.relu(1 - torch.sqrt(one.var(0) + 1e-4)).mean() for one in z)
    term = {
        'intra': naive.intra,
        'inter': naive.inter,
        'variance': hinge,
        'covariance': naive.reg - 5 * hinge,
    }[field]
    torch.testing.assert_close(alone.total, 2 * term, rtol=1e-5, atol=0, check_dtype=False)
    torch.testing.assert_close(
        naive.total - all_but.total,
        getattr(Weights(), field) * term,
        rtol=1e-4,
        atol=0,
        check_dtype=False,
    )


@pytest.mark.parametrize('modalities', [1, 2])
def test_objective_of_fewer_modalities(modalities):
    uni, fused = made(8, 20)[: 2 * modalities].chunk(2)
    mean = uni.sum(0) / modalities
    losses = umurl_objective([*uni, *fused])
    assert_same(
        losses.intra, sum(((a - b) ** 2).mean() for a, b in zip(uni, fused, strict=True)), 1e-5
    )
    expected = sum(((a - mean) ** 2).mean() for a in uni)
    torch.testing.assert_close(losses.inter.double(), expected, rtol=1e-5, atol=1e-12)
    assert_same(losses.reg, sum(naive_variance_covariance(one) for one in (*uni, *fused)), 1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    z = made(8, 40, dtype)
    for loss, expected in zip(
        umurl_objective(tuple(z)), umurl_objective(tuple(z.float())), strict=True
    ):
        assert loss.dtype == torch.float32
        assert loss == expected


def test_collapsed_projections_are_punished_with_a_finite_gradient():
    z = torch.ones(6, 8, 40)
    value, gradient = with_gradient(lambda z: umurl_objective(tuple(z)).total, z)
    assert value.item() == pytest.approx(6 * 5 * (1 - 1e-2))
    assert gradient.isfinite().all()


def test_recorded_losses(recorded_model, recorded_batch, recorded):
    losses = umurl_objective(recorded_model('initial')(*recorded_batch()))
    for name, loss in losses._asdict().items():
        assert loss.item() == pytest.approx(float(recorded('pretrain')[name]), rel=1e-4)


def test_recorded_gradients(recorded_model, recorded_batch, recorded):
    model = recorded_model('initial')
    umurl_objective(model(*recorded_batch())).total.backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    names = [name.removeprefix('module.') for name in recorded('pretrain')['grad_names']]
    assert list(norms) == names
    expected = dict(zip(names, recorded('pretrain')['grad_norms'].tolist(), strict=True))
    for name, norm in norms.items():
        # The gradient of a bias that a BatchNorm subtracts again is rounding around zero.
        vanishes = name.endswith(('projector.0.bias', 'projector.3.bias', 'norm2.bias'))
        tolerance = 1e-4 * max(expected.values()) if vanishes else 5e-5
        assert norm == pytest.approx(expected[name], rel=5e-4, abs=tolerance), name


@pytest.fixture(scope='module')
def trained(recorded_model, recorded_batch):
    """The recorded training, again: (model, total loss of each step)."""
    model, totals = recorded_model('initial'), []
    optimizer = torch.optim.Adam(model.parameters(), LR, weight_decay=1e-5)
    for step in range(STEPS):
        loss = umurl_objective(model(*recorded_batch(step))).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    return model, totals


def test_recorded_optimizer_trajectory(trained, recorded):
    assert trained[1] == pytest.approx(recorded('pretrain')['adam_losses'].tolist(), rel=1e-3)


def test_recorded_checkpoint_after_the_steps(trained, recorded_checkpoint):
    """Adam moves by about LR whatever the gradient's size, so a bias whose gradient is rounding
    alone (a BatchNorm, or the softmax over keys, takes it away again) wanders: two runs part by up
    to 2 LR a step. The means that the BatchNorms keep contain these biases. Elsewhere only single
    elements may be a step apart.
    """
    wandering = (
        'projector.0.bias',
        'projector.3.bias',
        'norm2.bias',
        'in_proj_bias',
        'running_mean',
    )
    state = trained[0].state_dict()
    for name, expected in recorded_checkpoint('checkpoint_0000')['state_dict'].items():
        wanders = name.endswith(wandering)
        apart = (state[name] - expected).double().abs()
        assert (apart <= (2 * STEPS if wanders else 1) * LR + 1e-3 * expected.abs()).all(), name
        rounding = 1e-5 * expected.double().abs().mean()
        assert wanders or apart.mean() <= 1e-3 * LR + rounding, name
    assert state['j_projector.1.num_batches_tracked'] == 2 * STEPS
