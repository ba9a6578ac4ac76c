"""What only a GPU can show. On a machine with one: python -m pytest -m cuda."""
import copy

import pytest
import torch

import pretrain
from feeder.feeders import PretrainFeeder
from feeder.prefetch import Prefetcher, Resident
from model.objective import Weights, umurl_objective
from model.umurl import UmURL
from tools.training.compilation import compiled
from tools.training.monitor import Monitor, projection_names

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')]
GPU = torch.device('cuda', 0)


@pytest.fixture(scope='module')
def clips(random_dataset):
    return random_dataset([80] * 16 + [200] * 16)


@pytest.fixture(scope='module')
def initial():
    torch.manual_seed(0)
    return UmURL(150, 192, 64)


def losses_of(model, clips, source=Resident, dtype=None, compile=False, each_step=lambda: None):
    """The total loss of each step of an epoch on the GPU."""
    model, objective, totals = copy.deepcopy(model).to(GPU), umurl_objective, []
    feeder = PretrainFeeder(clips, 8, seed=0, source=source(clips, GPU))
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    scaler = torch.amp.GradScaler('cuda', enabled=dtype == torch.float16)
    if compile:
        objective = compiled(model, objective, GPU)

    def recording(projections, weights):
        totals.append(objective(projections, weights))
        return totals[-1]
    monitor = Monitor(GPU, projection_names(('joint', 'bone', 'motion'), 'umurl'), scaler.is_enabled())
    for _ in pretrain.train_steps(model, recording, feeder, optimizer, scaler, 0, 0, Weights(), dtype, monitor):
        each_step()
    torch.cuda.set_sync_debug_mode('default')
    return torch.stack([losses.total.detach() for losses in totals]).cpu()


@pytest.fixture(scope='module')
def plain(initial, clips):
    return losses_of(initial, clips)


@pytest.mark.parametrize(('options', 'tolerance'), [
    ({'source': Prefetcher}, 1e-5), ({'compile': True}, 1e-3), ({'dtype': torch.bfloat16}, 3e-2),
    ({'dtype': torch.float16}, 3e-2), ({'dtype': torch.bfloat16, 'compile': True}, 3e-2)], ids=str)
def test_other_ways_to_the_same_losses(initial, clips, plain, options, tolerance):
    torch.testing.assert_close(losses_of(initial, clips, **options), plain, rtol=tolerance, atol=0)


def test_no_step_waits_for_the_gpu(initial, clips):
    """From the second step on: the first sets the optimizer up."""
    losses_of(initial, clips, dtype=torch.bfloat16, each_step=lambda: torch.cuda.set_sync_debug_mode('error'))
