"""The network: what the official code computes with the same weights, its paths, and its size."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from feeder.feeders import downstream_batches
from feeder.modalities import streams
from model.umurl import EarlyFusionBaseline, Layer, UmURL

HIDDEN = 8
ALL = 'joint', 'bone', 'motion'


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UmURL(150, 192, HIDDEN)


@pytest.fixture
def batch(random_clips):
    """(uni, fused) of five made clips."""
    uni = {
        modality: streams(random_clips(5, seed), (modality,))[modality]
        for seed, modality in enumerate(ALL)
    }
    return uni, streams(random_clips(5, 3))


def assert_same(actual, expected, relative=1e-4):
    """Equal to `relative` times the largest value expected."""
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=relative * expected.abs().max().item()
    )


def expected_keys():
    affine = ('weight', 'bias')
    keys = {
        f'backbone.{m}_emb.{s}_embedding.{i}.{p}'
        for m in 'jbm'
        for s in 'ts'
        for i in (0, 1, 3)
        for p in affine
    }
    keys |= {f'backbone.mm_fusion.{s}_fusion.0.weight' for s in 'ts'} | {
        'backbone.ma_encoder.pe.pe'
    }
    parts = (
        'self_attn.in_proj_',
        'self_attn.out_proj.',
        'linear1.',
        'linear2.',
        'norm1.',
        'norm2.',
    )
    keys |= {
        f'backbone.ma_encoder.{s}_tr.layers.0.{part}{p}'
        for s in 'ts'
        for part in parts
        for p in affine
    }
    keys |= {f'{m}_projector.{i}.{p}' for m in 'jbm' for i in (0, 1, 3, 4, 6) for p in affine}
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    return keys | {f'{m}_projector.{i}.{p}' for m in 'jbm' for i in (1, 4) for p in statistics}


def test_state_dict_has_the_published_tensors(model):
    assert set(model.state_dict()) == expected_keys()
    assert len(model.state_dict()) == 111
    assert model.state_dict()['backbone.ma_encoder.pe.pe'].shape == (1, 200, HIDDEN)


def test_published_checkpoint_fits_and_its_optimizer(recorded_checkpoint, width):
    """The optimizer's state is kept by position, so the order of the parameters is part of the
    format.
    """
    saved, model = recorded_checkpoint('checkpoint_0000'), UmURL(150, 192, width)
    assert list(model.state_dict()) == list(saved['state_dict'])
    assert model.backbone.ma_encoder.pe.pe.equal(saved['state_dict']['backbone.ma_encoder.pe.pe'])
    shapes = [state['exp_avg'].shape for state in saved['optimizer']['state'].values()]
    assert shapes == [parameter.shape for parameter in model.parameters()]


def test_recorded_projections(recorded_model, recorded_batch, recorded):
    projections = recorded_model('initial')(*recorded_batch())
    assert projections._fields == ('z_j', 'z_b', 'z_m', 'z_uj', 'z_ub', 'z_um')
    for name, z in projections._asdict().items():
        assert_same(z, torch.from_numpy(recorded('pretrain')[name]))


def test_recorded_features(recorded_model, recorded_dataset, recorded):
    backbone = recorded_model('checkpoint_0000').eval().backbone
    clips, parts = next(downstream_batches(recorded_dataset, 16))
    order = clips.argsort()
    assert len(parts) == 2  # recordings of one body and of two
    with torch.no_grad():
        features = backbone.encode(*parts)[order]
        assert_same(features, torch.from_numpy(recorded('downstream')['features']))
        for modality in ALL:
            expected = torch.from_numpy(recorded('downstream')[f'features_{modality}'])
            alone = [{modality: part[modality]} for part in parts]
            assert_same(backbone.encode(*alone)[order], expected)


def test_shapes(model, batch):
    assert [tuple(z.shape) for z in model(*batch)] == [(5, 4096)] * 6
    assert [tuple(y.shape) for y in model.encode_views(*views(batch))] == [(5, 2 * HIDDEN)] * 4


def views(batch):
    """The streams of each of the four views."""
    uni, fused = batch
    return [*({modality: uni[modality]} for modality in ALL), fused]


def test_views_encoded_together_equal_each_alone(model, batch):
    for together, view in zip(model.encode_views(*views(batch)), views(batch), strict=True):
        assert_same(together, model.backbone.encode(view), 1e-5)


def test_one_modality_does_not_pass_the_fusion(model, batch):
    _, fused = batch
    for parameter in model.backbone.mm_fusion.parameters():
        nn.init.constant_(parameter, torch.nan)
    for modality in ALL:
        assert model.backbone.encode({modality: fused[modality]}).isfinite().all()
    for pair in (('joint', 'bone'), ('bone', 'motion'), ALL):
        assert model.backbone.encode({modality: fused[modality] for modality in pair}).isnan().all()


@pytest.mark.parametrize('chosen', [('joint', 'motion'), ALL], ids='-'.join)
def test_fusion_is_a_map_of_the_mean_embedding(model, batch, chosen):
    backbone, fused = model.backbone, batch[1]
    embeddings = {'joint': backbone.j_emb, 'bone': backbone.b_emb, 'motion': backbone.m_emb}
    for stream, made in enumerate(
        backbone.embed({modality: fused[modality] for modality in chosen})
    ):
        embedded = [
            (embeddings[m].t_embedding, embeddings[m].s_embedding)[stream](fused[m][stream])
            for m in chosen
        ]
        weight = (backbone.mm_fusion.t_fusion, backbone.mm_fusion.s_fusion)[stream][0].weight
        assert_same(made, torch.stack(embedded).mean(0) @ weight.T, 1e-5)


@pytest.mark.parametrize('heads', [1, 4])
def test_layer_is_the_transformer_layer_of_torch(heads):
    theirs = nn.TransformerEncoderLayer(16, heads, 16, dropout=0, batch_first=True)
    ours = Layer(16, heads)
    for parameter in theirs.parameters():  # biases and norms too, which start at constants
        nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(3, 20, 16, generator=torch.Generator().manual_seed(0))
    assert_same(ours(tokens), theirs(tokens), 1e-5)


def test_layer_starts_as_the_one_of_torch():
    torch.manual_seed(0)
    theirs, ours = nn.TransformerEncoderLayer(256, 1, 256).state_dict(), Layer(256, 1).state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor.std(), theirs[name].std(), rtol=0.2, atol=0)
        torch.testing.assert_close(tensor.abs().max(), theirs[name].abs().max(), rtol=0.05, atol=0)


def test_features_are_the_maximum_over_tokens_behind_the_layers(batch):
    model = UmURL(150, 192, HIDDEN, num_layer=2)
    encoder, (temporal, spatial) = model.backbone.ma_encoder, model.backbone.embed(batch[1])
    position = torch.tensor(
        [
            [
                (math.cos if i % 2 else math.sin)(t / 10000 ** (i // 2 * 2 / HIDDEN))
                for i in range(HIDDEN)
            ]
            for t in range(64)
        ]
    )
    made = []
    for tokens, transformer in ((temporal + position, encoder.t_tr), (spatial, encoder.s_tr)):
        first, second = transformer.layers
        made.append(second(first(tokens)).max(1).values)
    assert_same(model.backbone.encode(batch[1]), torch.cat(made, 1), 1e-5)


def test_only_temporal_tokens_have_a_position(model, random_clips):
    temporal, spatial = streams(random_clips(2), ('joint',))['joint']
    features = model.backbone.encode({'joint': (temporal, spatial)})
    turned = model.backbone.encode({'joint': (temporal.flip(1), spatial.flip(1))})
    assert_same(turned[:, HIDDEN:], features[:, HIDDEN:], 1e-5)
    assert (turned[:, :HIDDEN] - features[:, :HIDDEN]).abs().max() > 1e-2


def test_each_projection_is_a_batchnorm_batch_of_its_own(model, batch):
    features = model.encode_views(*views(batch))
    projectors = model.j_projector, model.b_projector, model.m_projector
    alone = copy.deepcopy(projectors)
    made = model.project(projectors, features[:3], features[3])
    for number, (projector, before) in enumerate(zip(projectors, alone, strict=True)):
        assert_same(made[3 + number], before(features[3]), 1e-5)  # the fused one comes first
        assert_same(made[number], before(features[number]), 1e-5)
        assert projector[1].num_batches_tracked == projector[4].num_batches_tracked == 2
        for buffer, expected in zip(projector.buffers(), before.buffers(), strict=True):
            torch.testing.assert_close(buffer, expected)


def test_gradient_reaches_every_parameter(model, batch):
    torch.stack(model(*batch)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


SUBSETS = pytest.mark.parametrize('chosen', [('bone',), ('joint', 'motion'), ALL], ids='-'.join)


@SUBSETS
def test_projections_of_a_subset(model, batch, chosen):
    uni, fused = ({modality: half[modality] for modality in chosen} for half in batch)
    made = model.eval()(uni, fused)
    assert len(made) == 2 * len(chosen)
    y_u = model.backbone.encode(fused)
    for number, modality in enumerate(chosen):
        projector = {
            'joint': model.j_projector,
            'bone': model.b_projector,
            'motion': model.m_projector,
        }[modality]
        assert_same(made[number], projector(model.backbone.encode({modality: uni[modality]})), 1e-4)
        assert_same(made[len(chosen) + number], projector(y_u), 1e-4)


@SUBSETS
@pytest.mark.parametrize('network', [UmURL, EarlyFusionBaseline])
def test_exactly_what_has_no_gradient_is_frozen(batch, chosen, network):
    model = network(150, 192, HIDDEN)
    names = model.state_dict().keys()
    uni, fused = ({modality: half[modality] for modality in chosen} for half in batch)
    torch.stack(model(uni, fused)).square().mean().backward()
    used = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.freeze_unused(chosen)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == used
    assert names == UmURL(150, 192, HIDDEN).state_dict().keys()


@pytest.fixture
def four():
    """A model of four modalities, and its (uni, fused) of three random clips."""
    names = (*ALL, 'acceleration')
    generator = torch.Generator().manual_seed(0)

    def pair():
        return tuple(
            torch.randn(3, *shape, generator=generator) for shape in ((64, 150), (50, 192))
        )

    batch = [{name: pair() for name in names} for _ in range(2)]
    torch.manual_seed(0)
    return UmURL(150, 192, HIDDEN, modalities=names), batch


def test_another_modality_has_its_own_modules_under_its_full_name(four):
    model, (uni, fused) = four
    more = model.state_dict().keys() - expected_keys()
    assert {key.removeprefix('backbone.').split('.')[0] for key in more} == {
        'acceleration_emb',
        'acceleration_projector',
    }
    projections = model.eval()(uni, fused)
    names = 'z_j z_b z_m z_acceleration z_uj z_ub z_um z_uacceleration'
    assert projections._fields == tuple(names.split())
    y = model.backbone.encode({'acceleration': uni['acceleration']})
    assert_same(projections.z_acceleration, model.acceleration_projector(y))
    assert_same(projections.z_um, model.m_projector(model.backbone.encode(fused)))


def test_projections_of_some_modalities_have_their_names(four):
    model, (uni, fused) = four
    chosen = 'joint', 'acceleration'
    uni, fused = ({name: half[name] for name in chosen} for half in (uni, fused))
    model.freeze_unused(chosen)
    projections = model(uni, fused)
    assert projections._fields == ('z_j', 'z_acceleration', 'z_uj', 'z_uacceleration')
    torch.stack(projections).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


def test_the_baseline_is_two_fused_views_through_one_projector(batch):
    model = EarlyFusionBaseline(150, 192, HIDDEN).eval()
    uni, fused = batch
    for z, view in zip(model(fused, uni), (fused, uni), strict=True):
        assert_same(z, model.j_projector(model.backbone.encode(view)), 1e-4)


def test_the_order_of_the_modalities_does_not_matter(model, batch):
    uni, fused = batch
    turned = [dict(reversed(half.items())) for half in batch]
    for z, again in zip(model.eval()(uni, fused), model(*turned), strict=True):
        assert_same(z, again, 1e-5)


@pytest.fixture(scope='module')
def full_size():
    with torch.device('meta'):
        return UmURL(150, 192, 1024)


def test_number_of_parameters(full_size):
    def millions(module):
        return sum(parameter.numel() for parameter in module.parameters()) / 1e6

    assert millions(full_size.backbone) == pytest.approx(22.07, abs=0.01)
    assert millions(full_size) == pytest.approx(72.45, abs=0.01)


@pytest.mark.parametrize(
    ('chosen', 'gflops'), [(('bone',), 1.740), (ALL, 2.536)], ids=['uni-modal', 'fused']
)
def test_operations_of_a_clip(full_size, chosen, gflops):
    clip = torch.empty(1, 64, 150, device='meta'), torch.empty(1, 50, 192, device='meta')
    with FlopCounterMode(display=False) as counter:
        full_size.backbone.encode(dict.fromkeys(chosen, clip))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflops, abs=0.001)


def clips_in(dtype, clips, seed, bodies):
    """{modality: streams} of random clips; an absent second body is zeros."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(clips, 64, 2, 25, 3, generator=generator).to(dtype)
    x[:, :, bodies:] = 0
    return streams(x)


def without_absent_body(view):
    return {
        name: (temporal[..., :75], spatial[:, :25]) for name, (temporal, spatial) in view.items()
    }


@pytest.mark.parametrize('network', [UmURL, EarlyFusionBaseline])
@pytest.mark.parametrize(('heads', 'layers', 'chunks'), [(1, 1, 1), (2, 3, 1), (1, 1, 2)])
@pytest.mark.parametrize('names', [ALL, ('bone',)])
def test_an_absent_body_left_out_is_the_same_function(network, heads, layers, chunks, names):
    torch.manual_seed(0)
    model = network(150, 192, 8, heads, layers, chunks).double()
    one, two = (
        [
            {name: clips_in(torch.float64, clips, seed, bodies)[name] for name in names}
            for seed in (bodies, bodies + 2)
        ]
        for clips, bodies in ((3, 1), (2, 2))
    )
    together = [
        {name: tuple(map(torch.cat, zip(uni[name], fused[name], strict=True))) for name in names}
        for uni, fused in zip(one, two, strict=True)
    ]
    results = []
    for views in (together, [*map(without_absent_body, one), *two]):
        model.zero_grad()
        z = torch.stack(model(*views))
        z.mul(torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view_as(z)).sum().backward()
        gradients = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
        results.append((z.detach(), torch.cat(gradients)))
    (z, gradient), (z_short, gradient_short) = results
    assert (z - z_short).abs().max() < 1e-12 * z.abs().max()
    assert (gradient - gradient_short).norm() < 1e-12 * gradient.norm()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_an_absent_body_left_out_is_no_further_from_float64(dtype):
    torch.manual_seed(0)
    backbone = UmURL(150, 192, 64).backbone
    view = clips_in(torch.float32, 64, 0, 1)
    exact = copy.deepcopy(backbone).double()
    exact = exact.encode({name: (t.double(), s.double()) for name, (t, s) in view.items()})
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16), torch.no_grad():
        full, short = backbone.encode(view), backbone.encode(without_absent_body(view))
    errors = [(each - exact).norm() for each in (full, short)]
    assert errors[1] < 1.2 * errors[0]
