"""t-SNE of a few classes as one or several encoders see them: one figure, with a panel for each.

    python -m tools.analysis.tsne baseline.pth.tar umurl.pth.tar --titles "Simple baseline" UmURL --out figure.png

All panels show the same clips: at most --max-per-class of each of --classes classes drawn at
random, by default from the test split of cross_view, if the data set has it. Features of unit
length are reduced to 50 dimensions by PCA and to two by t-SNE; the same features and --seed give
the same figure. Below a panel are two numbers, of the features:

k-NN        share of the clips shown (%) that have the class of their nearest training clip (k = 1,
cosine), among all
            training clips of the classes shown; with --split train, a clip is not its own neighbour
silhouette  of the clips shown, by cosine distance: 1 for tight classes far apart, 0 for classes
that overlap
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits
from torch.nn.functional import normalize

from data_gen.protocols import DATASETS, Data
from tools import checkpoint, options
from tools.analysis import drawing, tsne_figure
from tools.common import cli
from tools.device import select
from tools.evaluation.feature_files import Features, Source, read_source
from tools.evaluation.features import load_or_extract
from tools.evaluation.knn import knn_search


def main(argv=None):
    args = parse_args(argv)
    data, device = options.data_of(args), select(args.device)
    features = [
        read_features(path, tuple(args.modalities), data, args.extract_batch, args.amp, device)
        for path in args.sources
    ]
    _, train_labels, _, val_labels = features[0]
    for title, other in zip(args.titles, features, strict=True):
        if not (other.train_labels.equal(train_labels) and other.val_labels.equal(val_labels)):
            raise cli.InputError(
                f'{title} has other clips than {args.titles[0]}: use the same data set and protocol'
            )
    labels = (train_labels if args.split == 'train' else val_labels).numpy()
    classes, shown = draw_clips(
        labels, train_labels.numpy(), args.classes, args.max_per_class, args.seed
    )
    if len(shown) <= max(args.perplexity, len(classes)):
        works = max(1, (len(shown) - 1) // 3)
        advice = f'use --perplexity {works}' if len(shown) > len(classes) else 'show more clips'
        raise cli.InputError(
            f'{len(shown)} clips are too few for --perplexity {args.perplexity}: {advice}'
        )
    print(
        f't-SNE of {len(shown)} {"test" if args.split == "val" else "training"} clips of '
        f'{len(classes)} classes, '
        f'{args.dataset} {args.protocol}'
    )
    panels = []
    for title, values in zip(args.titles, features, strict=True):
        points = embed(
            getattr(values, args.split)[shown].numpy(), args.perplexity, args.seed, title
        )
        panels.append((title, points, separation(values, args.split, classes, shown)))
        print(f'{title}: {panels[-1][2]}')
    names = [data.class_name(label) for label in classes]
    drawing.save(args.out, tsne_figure.draw(panels, np.searchsorted(classes, labels[shown]), names))
    print(f'{args.out}.png and .pdf')


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument(
        'sources',
        nargs='+',
        type=Path,
        metavar='FILE',
        help='checkpoints, or .npz of --save-features',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf'
    )
    parser.add_argument(
        '--titles',
        nargs='+',
        metavar='TITLE',
        help='titles of the panels (default: from file names)',
    )
    parser.add_argument(
        '--classes', type=cli.positive_int, default=10, metavar='N', help='how many (default 10)'
    )
    parser.add_argument(
        '--max-per-class', type=cli.positive_int, default=200, metavar='N', help='default 200'
    )
    parser.add_argument(
        '--split',
        '--part',
        choices=('train', 'val'),
        default='val',
        help='default val, for testing',
    )
    add_feature_flags(parser, 'cross_view')
    args = parser.parse_args(argv)
    if missing := [path for path in args.sources if not path.is_file()]:
        raise cli.InputError(
            f'{missing[0]} is not a file: name a checkpoint, or an .npz of --save-features'
        )
    stored = next((read_source(path) for path in args.sources if path.suffix == '.npz'), Source())
    dataset = args.dataset or stored.dataset or 'ntu60'
    view = 'cross_view' if 'cross_view' in DATASETS[dataset].protocols else None
    parser.set_defaults(dataset=dataset, protocol=stored.protocol or view)
    args = options.parse_args(parser, argv)
    args.titles = args.titles or [  # checkpoints of pretrain.py are told apart by their folders
        path.absolute().parent.name
        if checkpoint.NAME.fullmatch(path.name)
        else path.name.split('.')[0]
        for path in args.sources
    ]
    if len(args.titles) != len(args.sources):
        raise cli.InputError(f'--titles: {len(args.titles)} titles for {len(args.sources)} panels')
    args.out = drawing.output(args.out)
    return args


def add_feature_flags(parser: cli.Parser, protocol: str = 'cross_subject') -> None:
    """Which features: of what data, which modalities, how they are computed and reduced to two
    dimensions.
    """
    parser.add_argument(
        '--perplexity', type=cli.positive_int, default=30, help='of t-SNE (default 30)'
    )
    parser.add_argument(
        '--extract-batch', type=cli.positive_int, default=512, help='clips encoded at a time (512)'
    )
    options.add_data_flags(parser, '--finetune-dataset', protocol)
    options.add_modalities_flag(parser)
    options.add_machine_flags(parser, amp='off')


def read_features(path, subset, data: Data, batch_size, amp, device) -> Features:
    """The features of a checkpoint or an .npz file, scaled to unit length, on the CPU."""
    pretrained, npz = (None, path) if path.suffix == '.npz' else (path, None)
    subsets = npz and read_source(npz).subsets
    subset = subsets[0] if subsets and len(subsets) == 1 else subset
    loaded, *_ = load_or_extract([subset], data, pretrained, npz, None, batch_size, amp, device)
    train, train_labels, val, val_labels = (tensor.cpu() for tensor in loaded[subset])
    return Features(normalize(train), train_labels, normalize(val), val_labels)


def draw_clips(
    labels, train_labels, num_classes: int, max_per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Classes to show (K,) among those with training clips, and their clips as indices (P,) into
    labels (N,).
    """
    rng, known = np.random.default_rng(seed), np.intersect1d(labels, train_labels)
    if min(len(known), num_classes) < 2:
        raise cli.InputError(
            f'--classes {num_classes} of {len(known)} with training and test clips: show two or '
            'more'
        )
    classes = np.sort(rng.choice(known, min(num_classes, len(known)), replace=False))
    shown = [
        np.sort(rng.permutation(np.flatnonzero(labels == label))[:max_per_class])
        for label in classes
    ]
    return classes, np.concatenate(shown)


def embed(
    values: np.ndarray, perplexity: int, seed: int, title: str, method: str = 'tsne'
) -> np.ndarray:
    """Points (P, 2) of features (P, D): PCA, then t-SNE; method 'pca': PCA alone."""
    if values.shape[1] < 2 or not np.ptp(values, 0).any():
        raise cli.InputError(
            f'{title}: the features of all clips are the same, so there is nothing to show'
        )
    with threadpool_limits(1):  # sums over several threads differ a little from run to run
        reduced = PCA(min(50, *values.shape), random_state=seed).fit_transform(values)
        if method == 'pca':
            return reduced[:, :2]
        return TSNE(
            perplexity=perplexity, init='pca', learning_rate='auto', random_state=seed
        ).fit_transform(reduced)


def separation(features: Features, split: str, classes: np.ndarray, shown: np.ndarray) -> str:
    """The caption: how well the clips `shown` of a split are told apart, see above."""
    values, labels = getattr(features, split)[shown], getattr(features, f'{split}_labels')[shown]
    candidates = torch.isin(features.train_labels, torch.from_numpy(classes)).nonzero()[:, 0]
    neighbours, _ = knn_search(
        [features.train[candidates]], [values], k=2 if split == 'train' else 1
    )
    nearest = candidates[neighbours[:, 0]]
    if split == 'train':  # a clip is not its own neighbour
        nearest = torch.where(
            nearest == torch.from_numpy(shown), candidates[neighbours[:, 1]], nearest
        )
    accuracy = 100 * (features.train_labels[nearest] == labels).sum().item() / len(shown)
    return (
        f'k-NN {accuracy:.1f} %, silhouette {silhouette_score(values, labels, metric="cosine"):.3f}'
    )


if __name__ == '__main__':
    cli.run(main)
