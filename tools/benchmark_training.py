"""The stages of a step of pre-training, for `tools.benchmark`: what the project runs, on synthetic clips."""
import itertools
from argparse import Namespace

import numpy as np
import torch

from feeder.feeders import PretrainFeeder, generator_at
from model.objective import umurl_objective
from model.umurl import Projections, UmURL
from tools import costs, yardsticks
from tools.benchmark_stages import Stage
from tools.device import DTYPES, autocast
from tools.training import compiled, optimizer_and_scaler, train_step

STEPS = {'cpu': 1, 'cuda': 10}  # timed together: while a GPU computes one, the host prepares the next
BEFORE = {'forward': 'views', 'value_and_gradient': 'forward', 'backward': 'value_and_gradient', 'update': 'backward'}


def training_stages(clips, args, dtype, device):
    """The parts of a step, and whole steps; views, objective and optimizer, always float32, of the first dtype only."""
    training, size, hidden = Training(clips, args, dtype, device), args.batch_size, args.hidden_size
    ends, counts = clips.length.cumsum(0)[:size].tolist(), clips.length[:size].tolist()
    alone = [clips.frames[end - count:end] for end, count in zip(ends, counts, strict=True)]
    rng, first = np.random.default_rng(0), dtype == args.dtype[0]

    def stage(name, part, **more):
        return Stage(name, getattr(training, part), size, ready=lambda: training.ready(part), **more)
    if first:
        yield stage('views', 'views', bytes=costs.view_bytes(size), against='clip by clip',
                    yardstick=lambda: yardsticks.batch_one_by_one(alone, rng, device))
    yield stage('forward', 'forward', dtype=dtype, flops=costs.forward_flops(hidden) * size)
    if first:
        yield stage('objective', 'value_and_gradient', flops=costs.objective_flops(size), against='D x D form',
                    yardstick=lambda: training.value_and_gradient(yardsticks.wide_objective))
    yield stage('backward', 'backward', dtype=dtype, flops=2 * costs.forward_flops(hidden) * size)
    if first:
        yield stage('optimizer', 'update', bytes=costs.optimizer_bytes(hidden))
    yield stage('step', 'steps', dtype=dtype, calls=STEPS[device.type],
                flops=costs.step_flops(hidden) * size + costs.objective_flops(size))


class Training:
    """Pre-training on one device, `dtype` a name of device.DTYPES: whole steps, and one step in parts.

    Each part goes on from what the one before it made: self.batch, self.z, self.gradients, the parameters' gradients.
    """

    def __init__(self, clips, args, dtype, device):
        torch.manual_seed(0)
        self.size, self.device = args.batch_size, device
        self.feeder = PretrainFeeder(clips.to(device), self.size, seed=0)
        self.batches = itertools.chain.from_iterable(map(self.feeder.epoch, itertools.count()))
        self.model = UmURL(costs.STREAMS[0][1], costs.STREAMS[1][1], args.hidden_size).to(device)
        self.trained, self.objective = self.model, umurl_objective
        if args.compile:
            self.trained, self.objective = compiled(self.model, umurl_objective)
        self.amp = None if dtype == 'float32' else DTYPES[dtype]
        settings = Namespace(lr=5e-4, weight_decay=1e-5, amp='off' if self.amp is None else dtype)
        self.optimizer, self.scaler = optimizer_and_scaler(self.model, settings, device)
        self.batch = self.z = self.gradients = None

    def steps(self):
        """Whole steps, as pretrain.py makes them."""
        for batch in itertools.islice(self.batches, STEPS[self.device.type]):
            train_step(self.trained, batch, self.optimizer, self.scaler, self.amp, objective=self.objective)

    def views(self):
        self.batch = self.feeder.batch(torch.arange(self.size), generator_at(0, 0))

    def forward(self):
        with autocast(self.amp, self.device):
            self.z = self.trained(*self.batch)

    def value_and_gradient(self, total=None):
        """Of the objective with respect to the z's; `total`: of the six z's, in the objective's place."""
        leaves = Projections(*(z.detach().requires_grad_() for z in self.z))
        loss = total(torch.stack(leaves).float()) if total else self.objective(leaves).total
        self.gradients = torch.autograd.grad(self.scaler.scale(loss), leaves)

    def backward(self):
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.z, self.gradients)
        self.z = self.gradients = None

    def update(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def ready(self, part):
        """Make what a part goes on from, where it is not there: not every stage runs, and the backward uses it up."""
        made = {'views': self.batch, 'forward': self.z, 'value_and_gradient': self.gradients,
                'backward': next(self.model.parameters()).grad}
        before = BEFORE.get(part)
        if before and made[before] is None:
            self.ready(before)
            getattr(self, before)()
