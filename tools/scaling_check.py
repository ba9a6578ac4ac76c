"""The formulas of `tools.scaling` against two gloo processes on this machine: bytes really sent, and a step's time."""
import itertools
import os
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from data_gen.cli import InputError
from feeder.feeders import PretrainFeeder
from model.objective import umurl_objective
from model.umurl import UmURL
from tools import costs
from tools.benchmark_stages import made_clips
from tools.device import select
from tools.distributed import rank, world_size
from tools.training import optimizer_and_scaler, parallel, train_step

PROCESSES = 2
STEPS = 4  # in a window; figures are medians over windows
LARGE = 16 << 20  # bytes, of the message that bandwidth is measured with
COUNTERS = Path('/proc/net/dev')


def main():
    """Print what was predicted and what was measured."""
    if not COUNTERS.is_file():
        raise InputError(f'--check counts bytes in {COUNTERS}, which only Linux has')
    hidden_size, batch_size = 64, 32
    found = measure(hidden_size, batch_size)
    messages = costs.step_messages(hidden_size, batch_size, PROCESSES, batch_norm=False)  # each its own, on CPUs
    sent = PROCESSES * sum(size for size, *_ in messages.values())
    talk = sum(size / found['bandwidth'] + count * hops * found['latency'] for size, count, hops in messages.values())
    print(f'{PROCESSES} gloo processes on this machine, hidden size {hidden_size}, batch {batch_size}, float32; '
          f'{found["bandwidth"] / 1e9:.2f} GB/s, {found["latency"] * 1e6:.0f} us a message')
    print(f'bytes sent in a step: predicted {sent / 1e6:.2f} MB, measured {found["sent"] / 1e6:.2f} MB '
          f'({found["sent"] / sent - 1:+.1%})')
    print(f'ms a step: {1e3 * found["alone"]:.1f} without communication; predicted {1e3 * found["alone"]:.1f} with all '
          f'of it hidden to {1e3 * (found["alone"] + talk):.1f} with none, measured {1e3 * found["together"]:.1f}')


def measure(hidden_size, batch_size, windows=5):
    """Of two processes: bandwidth, latency, bytes that both send in a step, its seconds, also without communication."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (folder, hidden_size, batch_size, windows), PROCESSES)
        return torch.load(Path(folder) / 'found.pt')


def work(number, folder, *sizes):
    """One process; the first leaves what was found in `folder`."""
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    device, found = select('cpu'), {}
    before, _ = steps(device, *sizes)
    dist.init_process_group('gloo', f'file://{folder}/meeting', rank=number, world_size=PROCESSES)
    found['latency'] = summed(1) / (2 * (PROCESSES - 1))
    found['bandwidth'] = costs.all_reduce_bytes(LARGE, PROCESSES) / summed(LARGE // costs.FLOAT)
    found['together'], found['sent'] = steps(device, *sizes)
    dist.destroy_process_group()
    after, _ = steps(device, *sizes)
    found['alone'] = (before + after) / 2
    if number == 0:
        torch.save(found, Path(folder) / 'found.pt')


def steps(device, hidden_size, batch_size, windows):
    """Seconds of a step on this process's share of the batch, and bytes that all processes send in it."""
    torch.manual_seed(0)
    feeder = PretrainFeeder(made_clips(batch_size), batch_size // PROCESSES, 0, rank(), world_size())
    batches = itertools.chain.from_iterable(map(feeder.epoch, itertools.count()))
    model = UmURL(costs.STREAMS[0][1], costs.STREAMS[1][1], hidden_size)
    trained = parallel(model, device)
    optimizer, scaler = optimizer_and_scaler(model, Namespace(lr=5e-4, weight_decay=0, amp='off'), device)
    measured = []
    for _ in range(1 + windows):
        together()
        began, before = time.perf_counter(), loopback_bytes()
        for batch in itertools.islice(batches, STEPS):
            train_step(trained, batch, optimizer, scaler, objective=of_whole_batch)
        together()
        measured.append((time.perf_counter() - began, loopback_bytes() - before))
    seconds, sent = (median(values) / STEPS for values in zip(*measured[1:], strict=True))  # the first makes buckets
    return seconds, sent


def of_whole_batch(projections, weights):
    """The objective of as many clips as all processes have: each computes all of it, also when it is alone."""
    return umurl_objective(torch.stack(tuple(projections)).repeat(1, PROCESSES // world_size(), 1), weights)


def together():
    if world_size() > 1:
        dist.barrier()


def summed(count):
    """Seconds of summing so many numbers over the processes."""
    times, numbers = [], torch.zeros(count)
    for _ in range(20):
        together()
        began = time.perf_counter()
        dist.all_reduce(numbers)
        times.append(time.perf_counter() - began)
    return median(times)


def loopback_bytes():
    """Bytes that have gone through this machine's loopback interface, headers included."""
    line = next(line for line in COUNTERS.read_text().splitlines() if line.strip().startswith('lo:'))
    return int(line.split(':')[1].split()[0])
