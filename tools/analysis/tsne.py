"""t-SNE of a few classes as one or several encoders see them: one figure, with a panel for each.

    python -m tools.analysis.tsne baseline.pth.tar umurl.pth.tar --titles "Simple baseline" UmURL --out figure.png

All panels show the same clips: at most --max-per-class of each of --classes classes drawn at
random, from the test split. Data set and protocol are those of the first encoder, unless flags say
otherwise. Features of unit
length are reduced to 50 dimensions by PCA and to two by t-SNE; the same features and --seed give
the same figure. Below a panel are two numbers, of the features:

k-NN        how many of the clips shown (%) have the class of their nearest training clip (cosine),
            among all training clips of the classes shown; with --split train, a clip is not its
            own neighbour
silhouette  of the clips shown, by cosine distance: 1 for tight classes far apart, 0 for classes
            that overlap
"""

import tools.common.start  # noqa: F401

import sys
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from tools import checkpoint, options
from tools.analysis import drawing
from tools.common import cli
from tools.evaluation.feature_files import Features, read_source
from tools.evaluation.features import Extraction, read_features
from tools.evaluation.knn import knn_search

MARKERS = 'o^sDvP*X<h'
NOTE = 'k-NN (k = 1) among the training clips of these classes; both numbers are of the features, by cosine'


def main(argv=None):
    args = parse_args(argv)
    data, extraction = options.data_of(args), Extraction.of(args)
    subset = tuple(args.modalities)
    encoders = [read_features(path, subset, data, extraction) for path in args.sources]
    first = encoders[0]
    for title, other in zip(args.titles, encoders, strict=True):
        check_same_clips(other, first, title, args.titles[0])
    labels = getattr(first, f'{args.split}_labels').numpy()
    classes, shown = draw_clips(
        labels, first.train_labels.numpy(), args.classes, args.max_per_class, args.seed
    )
    if len(shown) <= len(classes):
        raise cli.InputError(
            f'{len(shown)} clips of as many classes: raise --max-per-class, or use --split train'
        )
    perplexity = fitting_perplexity(args.perplexity, len(shown))
    kind = 'test' if args.split == 'val' else 'training'
    number, total = str(len(classes)), len(np.intersect1d(labels, first.train_labels))
    if len(classes) < total:
        number += f' of {total}'
        print(f'--classes {total} shows all classes')
    about = (
        f'{len(shown)} {kind} clips of {number} classes, {args.dataset} '
        f'{args.protocol.replace("_", " ")}'
    )
    print(f't-SNE of {about}')
    panels = []
    for title, features in zip(args.titles, encoders, strict=True):
        values = getattr(features, args.split)[shown].numpy()
        points = embed(values, perplexity, args.seed, title)
        caption = separation(features, args.split, classes, shown)
        panels.append((title, points, caption))
        print(f'{title}: {caption}')
    names = [data.class_name(label) for label in classes]
    drawing.save(args.out, draw(panels, np.searchsorted(classes, labels[shown]), names, about))


def parse_args(argv):
    parser = cli.Parser(__doc__)
    add_perplexity_flag(parser)
    flag = parser.add_argument_group('figure').add_argument
    flag(
        'sources',
        nargs='+',
        type=Path,
        metavar='FILE',
        help='checkpoints, or .npz of --save-features; of a folder its newest checkpoint',
    )
    flag('--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf')
    flag(
        '--titles',
        nargs='+',
        metavar='TITLE',
        help='titles of the panels (default: from file names)',
    )
    flag('--classes', type=cli.positive_int, default=10, metavar='N', help='default 10')
    flag('--max-per-class', type=cli.positive_int, default=200, metavar='N', help='default 200')
    flag(
        '--split',
        '--part',
        choices=('train', 'val'),
        default='val',
        help='default val, for testing',
    )
    options.add_encoding_flags(parser)
    args = options.parse_args(parser, argv, read_source)
    args.titles = args.titles or list(map(title_of, args.sources))
    if len(args.titles) != len(args.sources):
        raise cli.InputError(f'--titles: {len(args.titles)} titles for {len(args.sources)} panels')
    args.out = drawing.output(args.out)
    return args


def add_perplexity_flag(parser: cli.Parser) -> None:
    parser.add_argument(
        '--perplexity',
        type=cli.positive_int,
        default=30,
        help='of t-SNE (default 30; lowered if there are too few clips)',
    )


def title_of(path: Path) -> str:
    """The title of a panel. Checkpoints of pretrain.py are told apart by their folders."""
    if checkpoint.NAME.fullmatch(path.name):
        return path.absolute().parent.name
    return path.name.split('.')[0]


def check_same_clips(features: Features, first: Features, title: str, first_title: str) -> None:
    """InputError if two panels would show different clips."""
    same_train = features.train_labels.equal(first.train_labels)
    same_val = features.val_labels.equal(first.val_labels)
    if not (same_train and same_val):
        raise cli.InputError(
            f'{title} has other clips than {first_title}: use the same data set and protocol'
        )


def fitting_perplexity(perplexity: int, num_clips: int) -> int:
    """The perplexity or, with a note, a third of the clips where t-SNE would need more of them."""
    if perplexity < num_clips:
        return perplexity
    fitting = max(1, (num_clips - 1) // 3)
    print(
        f'note: --perplexity {fitting}, not {perplexity}: there are {num_clips} clips',
        file=sys.stderr,
    )
    return fitting


def draw_clips(
    labels, train_labels, num_classes: int, max_per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Classes to show (K,) among those with training clips, and their clips as indices (P,) into
    labels (N,).
    """
    rng = np.random.default_rng(seed)
    known = np.intersect1d(labels, train_labels)
    if min(len(known), num_classes) < 2:
        raise cli.InputError(
            f'--classes {num_classes} of {len(known)} with training and test clips: show two or '
            'more'
        )
    classes = np.sort(rng.choice(known, min(num_classes, len(known)), replace=False))
    shown = []
    for label in classes:
        clips = rng.permutation(np.flatnonzero(labels == label))
        shown.append(np.sort(clips[:max_per_class]))
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
    values = getattr(features, split)[shown]
    labels = getattr(features, f'{split}_labels')[shown]
    candidates = torch.isin(features.train_labels, torch.from_numpy(classes)).nonzero()[:, 0]
    k = 2 if split == 'train' else 1
    neighbours, _ = knn_search([features.train[candidates]], [values], k)
    nearest = candidates[neighbours[:, 0]]
    if split == 'train':  # a clip is not its own neighbour
        itself = nearest == torch.from_numpy(shown)
        nearest = torch.where(itself, candidates[neighbours[:, 1]], nearest)
    right = features.train_labels[nearest] == labels
    accuracy = 100 * right.sum().item() / len(shown)
    silhouette = silhouette_score(values, labels, metric='cosine')
    return f'k-NN {accuracy:.1f} %, silhouette {silhouette:.3f}'


@drawing.styled
def draw(panels: list[tuple], classes: np.ndarray, names: list[str], about: str) -> Figure:
    """The figure, for a column of a paper or, with three or more panels, for its page.

    Panels (title, points (P, 2), caption); their points have `classes` (P,), indices into `names`.
    about: what is shown, above the legend.
    """
    width, columns = drawing.COLUMN, len(panels)
    if len(panels) > 2:
        width, columns = drawing.PAGE, min(4, len(panels))
    rows = -(-len(panels) // columns)
    side = width / columns
    figure = Figure((width, rows * (side + 0.4)), layout='constrained')
    size = np.clip(900 * side**2 / len(classes), 2, 25)
    for position, (title, points, caption) in enumerate(panels, 1):
        ax = figure.add_subplot(
            rows,
            columns,
            position,
            title=fill(title, int(13 * side)),
            xlabel=caption,
            xticks=[],
            yticks=[],
            box_aspect=1,
            aspect='equal',
        )
        handles = []
        for number in range(len(names)):
            dots = ax.scatter(
                *points[classes == number].T,
                size,
                drawing.COLOURS[number % 10],
                edgecolors='black',
                alpha=0.85,
                linewidths=0.1,
                marker=MARKERS[(number + number // 10) % 10],  # shifted every ten
            )
            handles.append(dots)
    longest = min(40, max(map(len, names)))
    figure.legend(
        handles,
        [fill(name, 40) for name in names],
        loc='upper center',
        bbox_to_anchor=(0.5, 0),
        ncols=np.clip(int(width / (0.3 + 0.065 * longest)), 1, 5),
        title=f'{about}\n{fill(NOTE, 60)}',
        markerscale=(20 / size) ** 0.5,
    )
    return figure


if __name__ == '__main__':
    cli.run(main)
