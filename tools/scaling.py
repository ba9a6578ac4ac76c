"""What to expect of several GPUs: bytes that each sends in a step, and the step's time, from one GPU's measured step.

    python -m tools.benchmark --stages forward backward objective optimizer views step --json FILE
    python -m tools.scaling --benchmark FILE [--bandwidth 50] [--latency 10]
    python -m tools.scaling --step-seconds 0.021 --batch-size 512
    python -m tools.scaling --check                     two processes on this machine, against the same formulas

Messages go round a ring, as gloo sends them, and nccl sends large ones (it does better with small ones on many GPUs):
to sum S bytes over n processes each sends 2 (n - 1) / n S, to gather S bytes of each (n - 1) S, at the pace of the
slowest link between two neighbours: NVLink within a machine, the network beyond. The gradients are summed beside the
backward, the last bucket of them after it; the gather of the z's and BatchNorm's statistics are waited for. Each
process computes the whole batch's objective and updates the whole model: these do not split.

In the tables, ms a step: compute; gradients, to sum them; waited, for the gather and BatchNorm; step, with the
gradients summed beside the backward; in turn, had one to wait for them too. Efficiency: of so many times a single GPU.
"""
import json
from pathlib import Path
from typing import NamedTuple

from data_gen import cli
from tools import costs, scaling_check

GPUS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (512, 1024)  # the published ones
Z_BYTES = {'float32': 4, 'bf16': 2, 'fp16': 2}


class Measured(NamedTuple):
    """Seconds of a step on one GPU, and of its parts. gram: of the objective, what grows with the batch squared."""
    step: float
    backward: float
    optimizer: float
    objective: float
    gram: float
    batch_size: int
    hidden_size: int
    z_bytes: int


class Predicted(NamedTuple):
    """One line of a table: bytes that a process sends in a step, and seconds of its parts.

    waited: of the gather and BatchNorm; step: with gradients summed beside the backward; apart: one after the other.
    """
    gpus: int
    batch_size: int
    sent: float
    compute: float
    gradients: float
    waited: float
    step: float
    apart: float


def main(argv=None):
    args = parse(argv)
    if args.check:
        return scaling_check.main()
    measured = read(args.benchmark, args.dtype) if args.benchmark else given(args)
    print(f'{args.bandwidth:g} GB/s and {args.latency:g} us a message between neighbours; one GPU: '
          f'{measured.step * 1e3:.1f} ms for {measured.batch_size} clips, hidden size {measured.hidden_size}')
    for batch in BATCHES:
        show(f'global batch {batch}', [predict(measured, gpus, batch, args) for gpus in GPUS])
    show(f'{measured.batch_size} clips on each GPU',
         [predict(measured, gpus, gpus * measured.batch_size, args) for gpus in GPUS])
    return None


def parse(argv):
    parser = cli.Parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--benchmark', type=Path, metavar='FILE', help='of tools.benchmark --json, on one GPU')
    source.add_argument('--step-seconds', type=cli.fraction, metavar='S',
                        help="one GPU's step, all of which is taken to split evenly")
    source.add_argument('--check', action='store_true', help='hold the formulas against two processes on this machine')
    parser.add_argument('--batch-size', type=cli.positive, default=512, help='of --step-seconds (default 512)')
    parser.add_argument('--hidden-size', type=cli.positive, default=1024, help='of --step-seconds (default 1024)')
    parser.add_argument('--dtype', choices=Z_BYTES,
                        help="of the model, and so of the z's (default: the file's first, or bf16)")
    parser.add_argument('--bandwidth', type=cli.fraction, default=50, metavar='GB/S',
                        help='each GPU sends to its neighbour (default 50: a 400 Gbit/s port for each)')
    parser.add_argument('--latency', type=cli.fraction, default=10, metavar='US', help='of a message (default 10)')
    args = parser.parse_args(argv)
    if not args.bandwidth or args.step_seconds == 0:
        parser.error('--bandwidth and --step-seconds must be more than 0')
    return args


def given(args):
    return Measured(args.step_seconds, args.step_seconds * 2 / 3, 0, 0, 0, args.batch_size, args.hidden_size,
                    Z_BYTES[args.dtype or 'bf16'])


def read(path, dtype):
    """The Measured of a file of tools.benchmark; InputError for any other file."""
    try:
        about = json.loads(path.read_text())
        rows = {(row['stage'], row['dtype']): row['seconds'] for row in about['rows']}
        dtype = dtype or next(dtype for stage, dtype in rows if stage == 'step')
        objective = rows['objective', 'float32']
        gram = min(objective, costs.objective_flops(about['batch_size']) / about['peaks']['matmul float32'])
        return Measured(rows['step', dtype], rows['backward', dtype], rows['optimizer', 'float32'], objective, gram,
                        about['batch_size'], about['hidden_size'], Z_BYTES[dtype])
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise cli.InputError(f'--benchmark {path}: not of tools.benchmark --json with the stages objective, backward, '
                             f'optimizer and step in {dtype or "any dtype"}') from error


def predict(measured, gpus, batch, args):
    """A step of `gpus` processes on a global batch."""
    growth, share = batch / measured.batch_size, batch / measured.batch_size / gpus
    by_clip = measured.step - measured.optimizer - measured.objective
    objective = (measured.objective - measured.gram) * growth + measured.gram * growth ** 2
    compute = by_clip * share + measured.optimizer + objective
    messages = costs.step_messages(measured.hidden_size, batch, gpus, measured.z_bytes)
    seconds = {what: message_seconds(*message, args) for what, message in messages.items()}
    gradients = seconds.pop('gradients')
    last = min(gradients, message_seconds(costs.all_reduce_bytes(costs.BUCKET, gpus), 1, 2 * (gpus - 1), args))
    visible = max(last, gradients - measured.backward * share)
    waited = sum(seconds.values())
    return Predicted(gpus, batch, sum(message[0] for message in messages.values()), compute, gradients, waited,
                     compute + waited + visible, compute + waited + gradients)


def message_seconds(sent, collectives, hops, args):
    return sent / (args.bandwidth * 1e9) + collectives * hops * args.latency * 1e-6


def show(title, lines):
    """Print a table, and where communication begins to tell."""
    print(f'\n{title}\n{"":28}|{"ms a step":^52}|\n{"GPUs":>5}{"clips/GPU":>10}{"MB sent":>12} |{"compute":>10}'
          f'{"gradients":>10}{"waited":>10}{"step":>10}{"in turn":>11} |{"clips/s":>10}{"efficiency":>11}')
    alone = lines[0].batch_size / lines[0].step
    efficiencies = {line.gpus: line.batch_size / line.step / line.gpus / alone for line in lines}
    for line in lines:
        times = [1e3 * seconds for seconds in (line.compute, line.gradients, line.waited, line.step, line.apart)]
        print(f'{line.gpus:5}{line.batch_size / line.gpus:10g}{line.sent / 1e6:12.1f} |'
              + ''.join(f'{time:10.2f}' for time in times)
              + f'  |{line.batch_size / line.step:10.0f}{efficiencies[line.gpus]:11.1%}')
    for least in (0.9, 0.5):
        low = next((gpus for gpus, efficiency in efficiencies.items() if efficiency < least), None)
        print(f'efficiency below {least:.0%}: ' + (f'from {low} GPUs on' if low else f'nowhere up to {GPUS[-1]} GPUs'))


if __name__ == '__main__':
    cli.run(main)
