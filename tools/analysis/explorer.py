"""One HTML page to explore an encoder: a map of clips, each with its skeleton and its nearest
neighbours.

    python -m tools.analysis.explorer checkpoint.pth.tar --out explorer.html

Open the file in a browser: it holds everything and needs no network. A clip is right if the nearest
of all training clips, on the page or not, has its class: of test clips that is the accuracy of
retrieval (k = 1). The neighbours shown are the nearest training clips on the page, or of all clips
if it has test clips only. Distance is by cosine, and no clip is its own neighbour.
"""

import tools.common.start  # noqa: F401

import base64
import json
import re
import zlib
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_gen.protocols import Name
from data_gen.skeleton import BODIES, PARENTS
from feeder.dataset import load_split
from tools import options
from tools.analysis.tsne import add_perplexity_flag, embed, fitting_perplexity
from tools.common import cli
from tools.common.files import replacing
from tools.evaluation.feature_files import read_source
from tools.evaluation.features import Extraction, read_features
from tools.evaluation.knn import knn_search

FRAMES = 16  # of each clip on the page
TSNE_LIMIT = 5000  # clips; t-SNE of more takes minutes


def main(argv=None):
    args = parse_args(argv)
    source, data = args.sources[0], options.data_of(args)
    folder, splits = data.folder, args.split.split('+')
    features = read_features(source, tuple(args.modalities), data, Extraction.of(args))
    clips = join_splits([read_split(folder, split) for split in splits])
    known = torch.cat([getattr(features, f'{split}_labels') for split in splits])
    if clips.labels.tolist() != known.tolist():
        raise cli.InputError(f'{source} has features of other clips than {folder}: see --data-root')
    class_names = [data.class_name(label) for label in range(data.num_classes(clips.labels))]
    shown = draw_clips(clips.labels, class_names, args.classes, args.max_points, args.seed)
    method = args.map or ('tsne' if len(shown) <= TSNE_LIMIT else 'pca')
    perplexity = args.perplexity
    if method == 'tsne':
        perplexity = fitting_perplexity(perplexity, len(shown))
    values = torch.cat([getattr(features, split) for split in splits])[shown]
    points = embed(values.numpy(), perplexity, args.seed, source.name, method)
    clips = Clips(*(values[shown] for values in clips))
    neighbours, cosine = neighbours_on_page(values, clips.train, args.neighbours)
    own = np.where(clips.train, shown, -1)  # training clips come first
    found = nearest(values, features.train, torch.from_numpy(own), 1)
    found_labels = features.train_labels[found[:, 0]].numpy()
    right = found_labels == clips.labels

    about, arrays = describe(clips, class_names)
    about['k'] = neighbours.shape[1]
    about['nearest'] = list(map(data.class_name, found_labels))
    arrays |= {
        'points': into_unit_square(points).astype('<f4'),
        'right': right,
        'neighbours': neighbours.astype('<u4'),
        'cosine': cosine.astype('<f4'),
    }
    shares = []
    for kind, of_kind in (('test', ~clips.train), ('training', clips.train)):
        if of_kind.any():
            shares.append(f'{100 * right[of_kind].mean():.1f} % of {of_kind.sum():,} {kind} clips')
    summary = (
        f'{len(shown):,} clips by {"PCA" if method == "pca" else "t-SNE"}; {" and ".join(shares)} '
        f'have the class of the nearest of all {len(features.train):,} training clips: by cosine, '
        'never the clip itself'
    )
    title = f'{source.name}, {args.dataset} {args.protocol.replace("_", " ")}'
    with replacing(args.out) as file:
        file.write(page(title, summary, about, arrays).encode())
    print(f'{title}: {summary}\nwritten: {args.out} ({args.out.stat().st_size / 1e3:,.0f} kB)')


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag(
        'sources',
        nargs=1,
        type=Path,
        metavar='FILE',
        help='a checkpoint, or an .npz of --save-features; of a folder its newest checkpoint',
    )
    flag('--out', type=Path, required=True, metavar='FILE.html', help='write this file')
    flag(
        '--split',
        choices=('train+val', 'train', 'val'),
        default='train+val',
        help='default train+val',
    )
    flag(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='show only these classes: A007, or a whole name',
    )
    flag(
        '--max-points',
        type=cli.positive_int,
        default=20000,
        metavar='N',
        help='at most N, at random (default 20000)',
    )
    flag(
        '--neighbours',
        type=cli.positive_int,
        default=5,
        metavar='K',
        help='of each clip (default 5)',
    )
    flag(
        '--map',
        choices=('tsne', 'pca'),
        help=f'default: tsne up to {TSNE_LIMIT} clips, pca for more',
    )
    add_perplexity_flag(parser)
    options.add_encoding_flags(parser)
    args = options.parse_args(parser, argv, read_source)
    options.try_outputs(args.out)
    return args


class Clips(NamedTuple):
    """names, labels and num_frames of N clips, whether they are training clips, and 16 frames of
    each: poses (N, 16, M, 25, 3).
    """

    names: np.ndarray
    labels: np.ndarray
    num_frames: np.ndarray
    train: np.ndarray
    poses: np.ndarray


def join_splits(splits: list[Clips]) -> Clips:
    return Clips(*map(np.concatenate, zip(*splits, strict=True)))


def describe(clips: Clips, class_names: list[str]) -> tuple[dict, dict[str, np.ndarray]]:
    """What the page holds of the clips themselves: names and counts, and arrays."""
    classes, label, counts = np.unique(clips.labels, return_inverse=True, return_counts=True)
    parsed = [Name.parse(Path(name).stem) for name in clips.names]
    bodies, packed = pack_poses(clips.poses)
    about = {
        'classes': [class_names[number] for number in classes],
        'counts': counts.tolist(),
        'parents': PARENTS,
        'names': clips.names.tolist(),
        'performers': [name and name.performer for name in parsed],
        'frames': FRAMES,
    }
    arrays = {
        'label': label.astype('<u2'),
        'train': clips.train,
        'num_frames': clips.num_frames.astype('<u4'),
        'bodies': bodies,
        'poses': packed,
    }
    return about, arrays


def into_unit_square(points: np.ndarray) -> np.ndarray:
    """Points (N, 2) scaled into the unit square, y down."""
    low, high = points.min(0), points.max(0)
    return 0.5 + (points - (low + high) / 2) / (high - low).max() * (1, -1)


def read_split(folder: Path, split: str) -> Clips:
    clips = load_split(folder, split)
    poses = []
    for part in clips.parts():
        steps = (part.num_frames[:, None] - 1) * torch.linspace(0, 1, FRAMES)
        poses.append(part.frames[part.start[:, None] + steps.round().long(), :BODIES])
    return Clips(
        np.array(clips.names, object),
        clips.labels.numpy(),
        clips.num_frames.numpy(),
        np.full(len(clips), split == 'train'),
        torch.cat(poses).numpy(),
    )


def draw_clips(
    labels: np.ndarray, names: list[str], classes: list[str] | None, limit: int, seed: int
) -> np.ndarray:
    """Clips to show, as ascending indices into labels (N,): at most `limit`, at random, of these
    classes or of all.
    """
    numbered = {name[:4]: name for name in names if re.match(r'A\d{3} ', name)}
    wanted = [numbered.get(name, name) for name in classes or names]
    chosen = [cli.position(name, names, 'class') for name in wanted]
    clips = np.flatnonzero(np.isin(labels, chosen))
    clips = np.sort(np.random.default_rng(seed).permutation(clips)[:limit])
    if len(np.unique(labels[clips])) < 2:
        raise cli.InputError(
            f'{cli.plural(len(clips), "clip")} of fewer than two classes: show at least two'
        )
    return clips


def neighbours_on_page(
    values: torch.Tensor, train: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest neighbours of each row of values (N, D), of length 1: their rows and cosines (N,
    k or fewer).

    They are rows that are true in `train` (N,), or any if none is; never the row itself.
    """
    candidates = torch.from_numpy(np.flatnonzero(train | ~train.any()))
    own = torch.full((len(values),), -1)
    own[candidates] = torch.arange(len(candidates))
    found = candidates[nearest(values, values[candidates], own, k)]
    cosines = [(values * values[column]).sum(1) for column in found.T]
    return found.numpy(), torch.stack(cosines, 1).numpy()


def nearest(
    values: torch.Tensor, candidates: torch.Tensor, own: torch.Tensor, k: int
) -> torch.Tensor:
    """The rows (N, k or fewer) of candidates (M, D) nearest to values (N, D), both of length 1.

    own (N,): the candidate that is the value itself, which is left out, or -1.
    """
    if len(candidates) < 2:
        raise cli.InputError('one training clip is too few for neighbours: show more clips')
    found, _ = knn_search([candidates], [values], min(k + 1, len(candidates)))
    is_itself = found == own[:, None]
    others_first = is_itself.int().argsort(dim=1, stable=True)
    return found.gather(1, others_first)[:, :-1]  # without itself, or the farthest


def pack_poses(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of bodies of each clip (N,), and all x and y (bodies of all clips, 2, 25, 16);
    both uint8.

    poses (N, 16, M, 25, 3), metres. x is to the right as the camera saw it, y down, 1..255, or 0 if
    a body is missing; after the first frame come differences (mod 256), which compress well. A
    second body never there is left out.
    """
    xy = -poses[..., :2]  # Kinect's x points to the sensor's left, its y up
    there = poses.any((3, 4))
    low, high = xy.min((1, 2, 3), keepdims=True), xy.max((1, 2, 3), keepdims=True)
    size = np.maximum((high - low).max(-1, keepdims=True), 1e-6)
    levels = np.rint(128 + (xy - (low + high) / 2) * (254 / size)).clip(1, 255)
    levels = np.where(there[..., None, None], levels, 0).astype(np.uint8)
    changes = np.diff(levels.transpose(0, 2, 4, 3, 1), axis=4, prepend=np.uint8(0))
    bodies = 1 + there[:, :, 1:].any((1, 2))
    return bodies.astype(np.uint8), changes[np.arange(poses.shape[2]) < bodies[:, None]]


def page(title: str, summary: str, about: dict, arrays: dict[str, np.ndarray]) -> str:
    """The HTML page. The data are compressed and in base64, so no name among them can break it."""
    content = {name: array.tobytes() for name, array in arrays.items()}
    content['about'] = json.dumps(about).encode()
    packed = {
        name: base64.b64encode(zlib.compress(values, 9)).decode()
        for name, values in content.items()
    }
    template = Path(__file__).with_suffix('.html').read_text('utf-8')
    script = Path(__file__).with_suffix('.js').read_text('utf-8')
    parts = {
        'title': escape(title),
        'summary': escape(summary),
        'script': script,
        'data': json.dumps(packed),
    }
    return re.sub('{{(title|summary|script|data)}}', lambda match: parts[match[1]], template)


if __name__ == '__main__':
    cli.run(main)
