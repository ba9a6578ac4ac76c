"""One HTML page to explore an encoder: a map of clips, each with its skeleton and its nearest neighbours.

    python -m tools.analysis.explorer checkpoint.pth.tar --out explorer.html
    python -m tools.analysis.explorer features.npz --split val --classes sit stand --out explorer.html

Everything is in the one file: open it in a browser, offline too. Skeletons are drawn as the camera saw them, after
normalisation, from the front: 16 frames of each clip, x and y, scaled to fit.

The neighbours of a clip are the nearest by cosine among the training clips on the page, or among all clips on it
if there are only test clips; never the clip itself. A clip is right if its nearest neighbour has its class.
"""
import base64
import json
import re
import zlib
from difflib import get_close_matches
from html import escape
from pathlib import Path

import numpy as np
import torch

from data_gen import cli
from data_gen.arrays import replacing
from data_gen.protocols import DATASETS, Name
from data_gen.reader import SplitReader
from data_gen.skeleton import BODIES, JOINTS, PARENTS
from tools import options
from tools.analysis.tsne import embed, read_features
from tools.device import select
from tools.evaluation.feature_files import Source, read_source
from tools.evaluation.features import classes_of
from tools.evaluation.knn import knn_search

FRAMES = 16  # of each clip on the page
TSNE_LIMIT = 5000  # points; t-SNE of more takes minutes


def main(argv=None):
    args = parse_args(argv)
    data = (args.data_root, args.dataset, args.protocol)
    folder = options.data_folder(*data)
    splits = ('train', 'val') if args.split == 'both' else (args.split,)
    readers = [SplitReader(folder, split) for split in splits]
    features = read_features(args.source, tuple(args.modalities), *data, args.extract_batch, args.amp,
                             select(args.device))
    for split, reader in zip(splits, readers, strict=True):
        if getattr(features, f'{split}_labels').tolist() != reader.labels:
            raise cli.InputError(f'{args.source} has features of other clips than {folder}: see --data-root')
    labels = np.concatenate([reader.labels for reader in readers])
    count, names = classes_of(*data, torch.from_numpy(labels))
    names = [str(name) for name in names] if names else [f'A{number:03d}' for number in range(1, count + 1)]
    shown = draw_clips(labels, names, args.classes, args.max_points, args.seed)
    if len(shown) <= args.perplexity:
        raise cli.InputError(f'{len(shown)} clips are too few for --perplexity {args.perplexity}: lower it or add some')
    values = torch.cat([getattr(features, split) for split in splits])[shown]
    train = np.concatenate([np.full(len(reader), split == 'train')
                            for split, reader in zip(splits, readers, strict=True)])[shown]
    neighbours, similarity = nearest(values, train, args.neighbours)
    method = args.map if args.map != 'auto' else 'tsne' if len(shown) <= TSNE_LIMIT else 'pca'
    print(f'{args.dataset} {args.protocol}: {cli.plural(len(shown), "clip")} of {len(np.unique(labels[shown]))} classes, '
          f'{"t-SNE" if method == "tsne" else "PCA"}')
    points = embed(values.numpy(), args.perplexity, args.seed, args.source.name, method)
    bodies, poses = pack_clips(readers, shown)
    recordings = [name for reader in readers for name in reader.names]
    num_frames = np.concatenate([reader.num_frames for reader in readers])
    title = f'{args.source.name}, {args.dataset} {args.protocol.replace("_", " ")}'
    about = {'title': title, 'map': method, 'classes': names, 'names': [recordings[clip] for clip in shown],
             'performers': [performer_of(recordings[clip]) for clip in shown],
             'parents': PARENTS, 'frames': FRAMES, 'k': neighbours.shape[1]}
    with replacing(args.out) as file:
        file.write(page(title, about, points=points.astype('<f4'), label=labels[shown].astype('<u2'),
                        train=train.astype('u1'), num_frames=num_frames[shown].astype('<u4'),
                        neighbours=neighbours.astype('<u4'), similarity=similarity.astype('<f4'),
                        bodies=bodies, poses=poses).encode())
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB; open it in a browser')


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('source', type=Path, metavar='FILE', help='a checkpoint, or an .npz of --save-features')
    flag('--out', type=Path, required=True, metavar='FILE.html', help='write this file')
    flag('--split', choices=('both', 'train', 'val'), default='both', help='clips of which split (default both)')
    flag('--classes', nargs='+', metavar='NAME', help='only clips of these classes (default: all)')
    flag('--max-points', type=cli.positive_int, default=20000, metavar='N', help='draw N at random (default 20000)')
    flag('--neighbours', type=cli.positive_int, default=5, metavar='K', help='nearest clips of each (default 5)')
    flag('--map', choices=('auto', 'tsne', 'pca'), default='auto', help=f'auto: t-SNE up to {TSNE_LIMIT} clips, or PCA')
    flag('--perplexity', type=cli.positive_int, default=30, help='of t-SNE (default 30)')
    flag('--extract-batch', type=cli.positive_int, metavar='N', help='clips encoded at a time')
    options.add_data_flags(parser, '--finetune-dataset')
    options.add_modalities_flag(parser)
    options.add_machine_flags(parser, amp='off')
    args = parser.parse_args(argv)
    if not args.source.is_file():
        raise cli.InputError(f'{args.source} is not a file: name a checkpoint, or an .npz of --save-features')
    stored = read_source(args.source) if args.source.suffix == '.npz' else Source()
    dataset = args.dataset or stored.dataset or 'ntu60'
    parser.set_defaults(dataset=dataset, protocol=stored.protocol or DATASETS[dataset].protocols[0])
    args = options.parse_args(parser, argv)
    options.try_outputs(args.out)
    return args


def draw_clips(labels: np.ndarray, names: list[str], classes: list[str] | None, limit: int, seed: int) -> np.ndarray:
    """The clips to show, as ascending indices into labels (N,): of the classes named, at most `limit`, at random."""
    for name in classes or ():
        if name not in names:
            close = get_close_matches(name, names, 3, 0) if names else []
            raise cli.InputError(f'--classes: there is no class {name}; the nearest names are {", ".join(close)}')
    clips = np.flatnonzero(np.isin(labels, [names.index(name) for name in classes])) if classes else np.arange(len(labels))
    if len(np.unique(labels[clips])) < 2:
        raise cli.InputError(f'{cli.plural(len(clips), "clip")} of one class or none: show two classes or more')
    return np.sort(np.random.default_rng(seed).permutation(clips)[:limit])


def nearest(values: torch.Tensor, train: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest neighbours of each row of values (N, D), of length 1: their rows and their cosines, both (N, k).

    They are taken from the rows in `train` (N,), or from all if that has none; a row is not its own neighbour. If there
    are fewer than k, there are that many.
    """
    candidates = torch.from_numpy(np.flatnonzero(train) if train.any() else np.arange(len(values)))
    if len(candidates) < 2:
        raise cli.InputError('one training clip is too few for neighbours: show more clips')
    found, _ = knn_search([values[candidates]], [values], min(k + 1, len(candidates)))
    found = candidates[found]
    own_last = (found == torch.arange(len(values))[:, None]).int().argsort(dim=1, stable=True)
    found = found.gather(1, own_last)[:, :-1]
    cosine = torch.stack([(values * values[column]).sum(1) for column in found.T], 1)
    return found.numpy(), cosine.numpy()


def pack_clips(readers: list[SplitReader], clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of bodies of each clip (N,), and all their poses one after another; both uint8. See `pack_poses`."""
    firsts = np.cumsum([0, *map(len, readers)])
    packed = []
    for clip in cli.progress(clips, 'skeletons', unit='clip', leave=False):
        split = np.searchsorted(firsts, clip, 'right') - 1
        first = clip - firsts[split]
        frames = readers[split].frames(first, first + 1)
        if not np.isfinite(frames).all():
            raise cli.InputError(f'{readers[split].file}: clip {first} has coordinates that are not finite')
        packed.append(pack_poses(frames))
    return np.array([len(poses) for poses in packed], 'u1'), np.concatenate([poses.ravel() for poses in packed])


def pack_poses(frames: np.ndarray) -> np.ndarray:
    """A clip (T, M, 25, 3) as bytes (bodies, 2, 25, 16): x to the right and y down in 1..255, or 0 if a body is missing.

    After the first of 16 evenly spaced frames come differences (mod 256), which compress well. A second body that is
    never there is left out.
    """
    poses = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int), :BODIES]
    seen = poses.any((2, 3))
    used = 1 + int(seen[:, 1:].any())
    xy, seen = -poses[:, :used, :, :2], seen[:, :used]  # Kinect's x points to the sensor's left, its y up
    low, high = (function(xy[seen], (0, 1)) if seen.any() else np.zeros(2) for function in (np.min, np.max))
    size = max((high - low).max(), 1e-6)
    levels = np.round(128 + (xy - (low + high) / 2) * (254 / size)).clip(1, 255) * seen[..., None, None]
    levels = levels.astype('u1').transpose(1, 3, 2, 0).reshape(used, 2, JOINTS, FRAMES)
    return np.diff(levels, axis=3, prepend=np.zeros_like(levels[..., :1]))


def performer_of(name: str) -> int | None:
    """The performer in the name of a recording, if it is named as in NTU RGB+D."""
    parsed = Name.parse(Path(name).stem)
    return parsed and parsed.performer


def page(title: str, about: dict, **arrays: np.ndarray) -> str:
    """The HTML page. All data are compressed and in base64, so no name in them can break it."""
    content = {'about': json.dumps(about).encode()} | {name: array.tobytes() for name, array in arrays.items()}
    data = json.dumps({name: base64.b64encode(zlib.compress(values, 9)).decode() for name, values in content.items()})
    template, script = (Path(__file__).with_suffix(suffix).read_text('utf-8') for suffix in ('.html', '.js'))
    parts = {'title': escape(title), 'script': script, 'data': data}
    return re.sub('{{(title|script|data)}}', lambda match: parts[match[1]], template)


if __name__ == '__main__':
    cli.run(main)
