"""Everything that runs on a GPU, on one that does not exist: its tensors have shapes, dtypes and a
device, no numbers.

Reading a number back, mixing devices or copying between them is an error there, in forward,
backward and optimizer: each of these makes a real GPU wait for the host, or the host for it.
test_fake_gpu.py runs this file.
"""

import math

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

import pretrain
from data_gen.skeleton import PARENTS
from feeder import augmentations, feeders, modalities, prefetch
from feeder.dataset import ClipDataset
from feeder.feeders import PretrainFeeder, downstream_batches, views_of
from feeder.modalities import streams
from feeder.prefetch import Resident
from model.objective import Weights
from model.umurl import EarlyFusionBaseline, UmURL
from tools.evaluation.features import extract_subsets
from tools.evaluation.finetune import Classifier
from tools.evaluation.knn import average_precision, knn_search, vote
from tools.evaluation.probe import linear_head, train_one_epoch
from tools.training.monitor import Monitor, projection_names
from tools.training.state import TrainState

NAME, CLIPS, WIDTH = 'fakegpu', 6, 8
PRODUCTS = 'mm', 'addmm', 'bmm', '_scaled_dot_product_efficient_attention'


class Backend(_DummyBackendModule):
    @staticmethod
    def get_amp_supported_dtype():
        return [torch.bfloat16, torch.float16]


class Strict(TorchDispatchMode):
    """An error for every operation whose tensors are not all on one device; a host's number may
    join in.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves((args, kwargs, result)) if torch.is_tensor(each)]
        devices = {each.device.type for each in tensors if each.dim() or each.device.type == NAME}
        if len(devices) > 1:
            raise RuntimeError(f'{function} mixes devices or copies between them')
        return result


class Traffic(TorchDispatchMode):
    """Counts the bytes that elementwise operations, reductions and copies read and write."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        space, _, name = function._schema.name.partition('::')
        if (
            space == 'aten'
            and not function.is_view
            and name.removesuffix('_backward') not in (*PRODUCTS, 'detach')
        ):
            self.total += sum(
                each.nbytes for each in tree_leaves((args, kwargs, result)) if torch.is_tensor(each)
            )
        return result


@pytest.fixture(scope='module')
def registered():
    """The device, whose autocast casts as CUDA's does in this project's model."""
    _setup_privateuseone_for_python_backend(NAME, Backend())
    rest, casts = torch.library.Library('_', 'IMPL'), torch.library.Library('aten', 'IMPL')
    key = 'AutocastPrivateUse1'
    rest.fallback(torch.library.fallthrough_kernel, key)
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def attention(query, key, value, *_, **__):  # the kernel that a head of 1024 gets on CUDA
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True
        )[0]

    def casting(operation, dtype):
        def cast(value):
            return (
                value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value
            )

        def run(*args, **kwargs):
            with torch._C._ExcludeDispatchKeyGuard(autocast):
                return operation(
                    *map(cast, args), **{name: cast(value) for name, value in kwargs.items()}
                )

        return run

    for name in ('linear', 'matmul', 'mm', 'bmm'):
        casts.impl(name, casting(getattr(torch.ops.aten, name), torch.bfloat16), key)
    casts.impl('scaled_dot_product_attention', casting(attention, torch.bfloat16), key)
    casts.impl('layer_norm', casting(torch.ops.aten.layer_norm, torch.float32), key)
    yield torch.device(NAME, 0)  # and the libraries stay


@pytest.fixture
def gpu(registered, monkeypatch):
    """The device, within a mode in which tensors have no numbers. Draws have no generator: it has
    none.
    """

    def uniform(*size, generator, dtype=torch.float32):
        return torch.rand(size, dtype=dtype, device=registered)

    def copied(tensors, device):  # once, before
        return [torch.empty(each.shape, dtype=each.dtype, device=device) for each in tensors]

    monkeypatch.setattr(augmentations, 'uniform', uniform)
    monkeypatch.setattr(prefetch, 'copied', copied)
    monkeypatch.setattr(feeders, 'copied', copied)
    # On the host, where tensors have no numbers here either: half of a batch has one body.
    monkeypatch.setattr(feeders, 'one_body_is_enough', lambda *_: True)
    monkeypatch.setattr(
        prefetch, 'one_body_first', lambda clips: (torch.arange(len(clips)), len(clips) // 2)
    )
    with FakeTensorMode():
        parents = torch.zeros(len(PARENTS), dtype=torch.long, device=registered)
        monkeypatch.setattr(
            modalities, 'parents', {registered: parents}.__getitem__
        )  # copied there once, before
        yield registered


def on(device, module):
    """The module with parameters and buffers on the device."""
    for part in module.modules():
        for own in (part._parameters, part._buffers):
            for name, value in own.items():
                if value is not None:
                    there = torch.empty(value.shape, dtype=value.dtype, device=device)
                    own[name] = nn.Parameter(there) if own is part._parameters else there
    return module


def dataset_on(device, clips=CLIPS):
    counts = torch.full((clips,), 70, device=device)
    frames = torch.randn(70 * clips, 2, 25, 3, device=device)
    second_body = torch.ones(clips, dtype=torch.bool)
    return ClipDataset(frames, counts, torch.zeros_like(counts), [''] * clips, second_body)


def batches(device, views):
    """The streams of one step, as the feeder makes them."""
    dataset = dataset_on(device)
    feeder = PretrainFeeder(
        ClipDataset(
            dataset.frames,
            torch.full((CLIPS,), 70),
            dataset.labels,
            dataset.names,
            dataset.second_body,
        ),
        CLIPS,
        seed=0,
        views=views,
        source=Resident(dataset, device),
    )
    (loaded,) = feeder.source.batches([torch.zeros(CLIPS, dtype=torch.long)])
    assert [bodies for _, bodies in loaded.parts()] == [1, 2]
    return feeder.batch(loaded, dataset.num_frames, lambda view, name: None)


class OneStep:
    """A feeder of one batch."""

    def __init__(self, batch, device):
        self.batch, self.source = batch, Resident(dataset_on(device, 1), device)

    def epoch(self, *_):
        yield self.batch


def train_one_step(device, network=UmURL, chunks=1, dtype=None, names=('joint', 'bone', 'motion')):
    baseline = network is EarlyFusionBaseline
    model = on(device, network(150, 192, WIDTH, encoder_chunks=chunks))
    model.freeze_unused(names)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    scaler = torch.amp.GradScaler(NAME, enabled=dtype == torch.float16)
    projections = projection_names(names, 'baseline' if baseline else 'umurl')
    monitor = Monitor(device, projections, scaler.is_enabled())
    with Strict():
        batch = batches(device, views_of(names, fused_only=baseline))
        state = TrainState(model, optimizer, scaler, monitor)
        losses_of = pretrain.build_losses(model, pretrain.umurl_objective, Weights(), dtype, device)
        pretrain.train_one_epoch(state, OneStep(batch, device), losses_of, lambda: 0)
        assert state.step == 1
    assert all(each.grad.device == device for each in model.parameters() if each.requires_grad)


def test_a_training_step_never_waits(gpu):
    train_one_step(gpu)


@pytest.mark.parametrize(
    'options',
    [
        {'network': EarlyFusionBaseline},
        {'names': ('joint', 'motion')},
        {'names': ('bone',)},
        {'chunks': 4},
        {'dtype': torch.bfloat16},
        {'dtype': torch.float16},
    ],
    ids=str,
)
def test_other_training_steps_never_wait(gpu, options):
    train_one_step(gpu, **options)


@torch.no_grad()
def test_feature_extraction_never_waits(gpu):
    backbone, dataset = on(gpu, UmURL(150, 192, WIDTH)).backbone, dataset_on(gpu)
    with Strict():
        features = extract_subsets(
            backbone, dataset, [('joint',), ('joint', 'bone', 'motion')], 4, torch.bfloat16
        )
    assert {value.device for value in features.values()} == {gpu}


def test_retrieval_never_waits_within_a_block(gpu):
    train, queries = (normalize(torch.randn(clips, 16, device=gpu)) for clips in (20, 8))
    with Strict():
        neighbours, _ = knn_search([train], [queries], 3, block=4)
        assert vote(torch.zeros(20, dtype=torch.long, device=gpu)[neighbours], 5).device == gpu
        assert (
            average_precision(queries @ train[:4].T, (queries @ train.T).sort(1).values).device
            == gpu
        )


def test_the_probe_and_fine_tuning_never_wait(gpu):
    labels = torch.zeros(CLIPS, dtype=torch.long, device=gpu)
    head, features = (
        on(gpu, linear_head(2 * WIDTH, 5, torch.Generator())),
        torch.randn(CLIPS, 2 * WIDTH, device=gpu),
    )
    classifier = Classifier(on(gpu, UmURL(150, 192, WIDTH)).backbone, head)
    dataset, crops = dataset_on(gpu), (labels, labels + 60)
    with Strict():
        train_one_epoch(head, torch.optim.SGD(head.parameters(), 1.0, 0.9), [(features, labels)])
        order = torch.zeros(CLIPS, dtype=torch.long)
        ((_, inputs),) = downstream_batches(dataset, CLIPS, crops=crops, clips=order)
        train_one_epoch(
            classifier, torch.optim.SGD(classifier.parameters(), 1.0, 0.9), [(inputs, labels)]
        )
        assert len(list(downstream_batches(dataset, 4))) == math.ceil(CLIPS / 4)


@pytest.mark.parametrize(
    'fault',
    [
        lambda x: x[..., PARENTS, :],
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x[0, 0, 0, 0] + torch.zeros(3),
        lambda x: x.cpu(),
        lambda x: torch.ones(3).to(x.device),
    ],
    ids=[
        'list as index',
        'index on the host',
        'item',
        'boolean mask',
        'zeros without a device',
        'to the host',
        'from the host',
    ],
)
def test_a_fault_is_noticed(gpu, fault):
    """What this file would find, put into the bone modality."""
    x = torch.randn(2, 64, 2, 25, 3, device=gpu)
    with Strict():
        streams(x)
        with pytest.raises(Exception, match='[Dd]evice|_local_scalar_dense|nonzero|fakegpu'):
            fault(x)


def test_under_autocast_the_residual_stream_stays_in_bf16(gpu):
    """The bytes of a step at the published size are counted too, beside its products and its
    attention. With torch's own LayerNorm they are 73.2 GB.
    """
    model, traffic = on(gpu, UmURL(150, 192, 1024)), Traffic()
    pair = torch.empty(512, 64, 150, device=gpu), torch.empty(512, 50, 192, device=gpu)
    view = dict.fromkeys(('joint', 'bone', 'motion'), pair)
    seen = []
    for layer in model.backbone.ma_encoder.modules():
        layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with traffic:
        with torch.autocast(NAME, torch.bfloat16):
            z = model(view, view)
        pretrain.umurl_objective(z).total.backward()
    assert set(seen) == {torch.bfloat16}
    assert {each.grad.dtype for each in model.parameters()} == {torch.float32}
    assert traffic.total < 38.1e9
