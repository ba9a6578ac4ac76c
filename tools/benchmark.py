"""How fast the parts are, each beside a yardstick timed in the same run: shared machines lie about seconds, not ratios.

    python -m tools.benchmark [--recordings FOLDER] [--json FILE]

read, normalise   one raw recording, against numpy.array(text.split(), float) on the same text
views             four augmented views of 128 clips, against a clip-by-clip loop over F.interpolate and numpy
objective         value and gradient in the B x B form, against the D x D form of the covariances
"""
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from data_gen import cli
from data_gen.arrays import replacing
from data_gen.demo_recordings import write_recordings
from data_gen.preprocess import normalize
from data_gen.skeleton import SkeletonError, read_xyz
from feeder.feeders import SIZE, VIEWS, PretrainFeeder, generator_at
from feeder.store import ClipStore
from model.objective import umurl_objective
from model.umurl import Projections
from tools.device import select

BATCH = 128  # clips of the views row
FRAMES = 84  # the mean length of an NTU-60 clip


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('--recordings', type=Path, metavar='FOLDER', help='.skeleton files (default: demo recordings)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the table there too')
    args = parser.parse_args(argv)

    select('cpu')
    rows = [*data_rows(args.recordings), views_row(), objective_row()]
    print(f'{"":28}{"ours":>12}{"yardstick":>12}{"ratio":>9}{"aim":>7}   ({torch.get_num_threads()} threads)')
    for row in rows:
        print(f'{row["name"]:28}{row["ours"] * 1e3:9.2f} ms{row["yardstick"] * 1e3:9.2f} ms{row["ratio"]:9.3f}'
              f'{row["aim"]:7.2f}   {row["note"]}')
    if args.json:
        with replacing(args.json) as file:
            file.write(json.dumps(rows, indent=1).encode())


def row(name, ours, yardstick, aim, note=''):
    """A line of the table; times in seconds, `aim` the largest ratio that is meant."""
    return {'name': name, 'ours': ours, 'yardstick': yardstick, 'ratio': ours / yardstick, 'aim': aim, 'note': note}


def best(work, repeats=7):
    """The least seconds of several runs: what the work costs when nothing disturbs it."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def data_rows(folder, most=12):
    """Reading and normalising, summed over a few recordings spread over a folder."""
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            write_recordings(made, classes=4, performers=4)
        paths = sorted(Path(folder or made).glob('*.skeleton'))
        if not paths:
            raise cli.InputError(f'--recordings {folder}: no .skeleton files there')
        read = prepare = unit = 0
        for path in paths[::max(1, len(paths) // most)]:
            try:
                xyz = read_xyz(path)
            except SkeletonError:
                continue
            text = path.read_text()
            read += best(lambda path=path: read_xyz(path))
            prepare += best(lambda xyz=xyz: normalize(xyz))
            unit += best(lambda text=text: np.array(text.split(), float))
    return [row('read a recording', read, unit, 0.6), row('normalise a recording', prepare, unit, 0.3, 'all protocols')]


def views_row():
    length = torch.randint(FRAMES // 2, FRAMES + FRAMES // 2, (BATCH * 4,), generator=generator_at(0, 0))
    frames = torch.randn(int(length.sum()), 2, 25, 3, generator=generator_at(0, 1))
    store = ClipStore(frames, length, torch.zeros_like(length), [])
    feeder, clips = PretrainFeeder(store, BATCH, seed=0), torch.arange(BATCH)
    one_by_one = [frames[start:start + count] for start, count in zip(store.start, length, strict=True)][:BATCH]
    rng = np.random.default_rng(0)

    def views():
        return [feeder.view(clips, generator_at(0, 0, step)) for step in range(VIEWS)]
    return row(f'four views of {BATCH} clips', best(views), best(lambda: views_one_by_one(one_by_one, rng)), 0.25)


def views_one_by_one(clips, rng):
    """The yardstick: each view of each clip by itself; clips a list of (T, M, V, C)."""
    views = []
    for clip in clips:
        for _ in range(VIEWS):
            frames = len(clip)
            length = int(np.clip(int(frames * rng.uniform(0.1, 1)), min(64, frames), frames))
            start = rng.integers(frames - length + 1)
            lines = clip[start:start + length].permute(1, 2, 3, 0).reshape(1, -1, length)
            view = functional.interpolate(lines, size=SIZE, mode='linear', align_corners=False).numpy()
            view = np.ascontiguousarray(view.reshape(*clip.shape[1:], SIZE).transpose(3, 0, 1, 2))
            if rng.random() < 0.5:
                joints = rng.choice(25, 15, replace=False)
                if rng.random() < 0.5:
                    view[:, :, joints] = 0
                else:
                    view[:, :, joints] = view[:, :, joints] @ rng.uniform(-1, 1, (3, 3)).astype(np.float32)
            else:
                shear = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
                np.fill_diagonal(shear, 1)
                view = view @ shear.T
            views.append(view)
    return torch.from_numpy(np.stack(views))


def objective_row(batch=64, width=4096):
    """The loss of all six z's, forward and backward; the note says how far apart the two forms are."""
    z = torch.randn(6, batch, width, generator=generator_at(0, 2)).requires_grad_()

    def ours():
        total = umurl_objective(Projections(*z)).total
        return total.detach(), *torch.autograd.grad(total, z)

    def wide():
        total = wide_objective(z)
        return total.detach(), *torch.autograd.grad(total, z)
    value, gradient = (float((a - b).norm() / b.norm()) for a, b in zip(ours(), wide(), strict=True))
    return row(f'objective, B = {batch}', best(ours), best(wide, 2), 0.1,
               f'relative difference: value {value:.1e}, gradient {gradient:.1e}')


def wide_objective(z):
    """The yardstick: the objective with its D x D covariance matrices; z (6, B, D)."""
    uni, fused = z[:3], z[3:]
    total = 5 * sum(functional.mse_loss(a, b) + functional.mse_loss(a, uni.mean(0))
                    for a, b in zip(uni, fused, strict=True))
    for one in z:
        covariance = torch.cov(one.T)
        hinge = torch.relu(1 - torch.sqrt(one.var(0) + 1e-4)).mean()
        total = total + 5 * hinge + (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[2]
    return total


if __name__ == '__main__':
    cli.run(main)
