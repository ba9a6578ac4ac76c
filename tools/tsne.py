"""The paper's t-SNE figure: clips of a few classes as each of several encoders sees them, side by side.

    python -m tools.tsne baseline.pth.tar umurl.pth.tar --titles "Simple baseline" UmURL --out figure.png

One panel for each checkpoint or features file (.npz of --save-features), all with the same clips and colours: --classes
classes drawn at random, and of each at most --max-per-class clips of the test part, by default that of cross_view where
the data set has it. Features are scaled to unit length, as for retrieval, and brought to 50 dimensions by PCA, then by
t-SNE to the two that are drawn. The two numbers under a panel are of the features themselves, not of the picture:

k-NN        how many of the clips drawn (%) have the class of the most similar training clip (k = 1, cosine); training
            clips of the classes drawn compete, all of them, but with --part train never the clip itself
silhouette  of the clips drawn, by cosine distance: 1 for tight classes far apart, 0 for classes that overlap

The same features and --seed give the same figure, on any number of threads. Writes FILE.png and FILE.pdf.
"""
import sys
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.nn.functional import normalize

from data_gen import cli
from data_gen.protocols import DATASETS
from feeder.modalities import MODALITIES
from tools import checkpoint, feature_files, features, options, tsne_figure
from tools.device import select

PCA_DIMENSIONS = 50
CLIPS_AT_ONCE = 1024  # compared with the training clips


class Source(NamedTuple):
    """Of one panel: its title, its Features on the CPU, of unit length, and the arguments with what they are of."""
    title: str
    data: features.Features
    args: Namespace


def main(argv=None):
    args = parse(argv)
    tsne_figure.require_matplotlib()  # before the long work
    device = select(args.device)
    sources = [read(path, title, args, device) for path, title in zip(args.sources, args.titles, strict=True)]
    same_clips(sources)
    labels, train_labels = of_part(sources[0].data, args.part)[1], sources[0].data.train_labels.numpy()
    classes, shown = draw_clips(labels, train_labels, args)

    check_spread(sources, shown, args.part)
    panels = [panel(source, classes, shown, args) for source in cli.progress(sources, 't-SNE', unit='panel')]
    what = f'{len(shown)} {"test" if args.part == "val" else "training"} clips of {len(classes)} classes'
    print(f't-SNE of {what}, {sources[0].args.dataset} {sources[0].args.protocol}')
    for each in panels:
        print(f'{each.title}: k-NN {each.accuracy:.1f} %, silhouette {each.silhouette:.3f}')
    names = class_names(sources[0], classes)
    for path in tsne_figure.write(args.out, panels, np.searchsorted(classes, labels[shown]), names):
        print(path)


def parse(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('sources', nargs='+', type=Path, metavar='CHECKPOINT|FEATURES.npz', help='a panel each')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='FILE.png and FILE.pdf are written')
    parser.add_argument('--titles', nargs='+', metavar='TITLE', help='of the panels (default: from the file names)')
    parser.add_argument('--classes', type=two_or_more, default=10, metavar='N', help='how many to draw (default 10)')
    parser.add_argument('--max-per-class', type=two_or_more, default=200, metavar='N',
                        help='clips of a class to draw, at most (default 200)')
    parser.add_argument('--perplexity', type=cli.positive, default=30, help='of t-SNE (default 30)')
    parser.add_argument('--part', choices=('train', 'val'), default='val',
                        help='whose clips (default val, the test part)')
    options.add_data_flags(parser, '--finetune-dataset', 'default cross_view where there is one, as in the paper')
    parser.add_argument('--modalities', nargs='+', choices=MODALITIES, default=list(MODALITIES),
                        help='one takes the uni-modal path, two or three the fused one (default: all three)')
    parser.add_argument('--extract-batch', type=cli.positive, default=512, metavar='N',
                        help='clips the encoder sees at once (default 512)')
    options.add_machine_flags(parser, amp='off')
    options.add_ignored_flags(parser)
    if 'cross_view' in DATASETS[parser.parse_args(argv).dataset].protocols:
        parser.set_defaults(protocol='cross_view')
    args = options.parse(parser, argv)
    args.titles = args.titles or [default_title(path) for path in args.sources]
    check(args)
    return args


def two_or_more(text):
    """An argparse type."""
    return cli.natural(text, 2)


def default_title(path):
    """pretrain.py's checkpoints are told apart by their folders, other files by their names."""
    return path.absolute().parent.name if checkpoint.NAME.fullmatch(path.name) else path.name.split('.')[0]


def check(args):
    """InputError for what can be told before the long work; makes the folder of --out."""
    if len(args.titles) != len(args.sources):
        raise cli.InputError(f'--titles: {len(args.titles)} titles for {len(args.sources)} panels')
    for path in args.sources:
        if not path.is_file():
            raise cli.InputError(f'{path}: {"a folder, not a" if path.is_dir() else "no such"} checkpoint or .npz file')
    if args.out.suffix not in ('', '.png', '.pdf') or args.out.is_dir():
        raise cli.InputError(f'--out {args.out}: name a file, FILE.png; FILE.png and FILE.pdf are written')
    args.out.parent.mkdir(parents=True, exist_ok=True)


def read(path, title, args, device):
    """The Source of a checkpoint or features file."""
    kept = path.suffix == '.npz'
    chosen = {'load_features': path if kept else None, 'pretrained': None if kept else path, 'save_features': None,
              'ensemble': False, 'all_modalities': False}
    about = feature_files.load(path)[1] if kept else {}  # a file says itself what it is of, whatever the flags
    args = Namespace(**vars(args) | {name: about[name] for name in feature_files.USUAL if name in about} | chosen)
    (data,) = features.from_args(args, device).values()
    train, train_labels, val, val_labels = (tensor.cpu() for tensor in data)
    return Source(title, features.Features(normalize(train), train_labels, normalize(val), val_labels), args)


def same_clips(sources):
    """InputError where the panels cannot be compared."""
    first, *others = sources
    for other in others:
        if not (other.data.train_labels.equal(first.data.train_labels)
                and other.data.val_labels.equal(first.data.val_labels)):
            raise cli.InputError(f'{other.title} is of other clips than {first.title}: give features of the same data '
                                 'set and protocol')


def of_part(data, part):
    """(features (N, 2H), labels (N,)) of a part, as arrays."""
    return getattr(data, part).numpy(), getattr(data, f'{part}_labels').numpy()


def draw_clips(labels, train_labels, args):
    """The classes and clips to show, in order: classes (K,), indices (P,) of clips of the part labels (N,) are of.

    Of the labels and the arguments alone, so the same for every panel. A class that is not trained on is never drawn.
    """
    rng = np.random.default_rng(args.seed)
    known = np.intersect1d(labels, train_labels)
    if len(known) < 2:
        raise cli.InputError(f'{len(known)} class has both training and test clips: t-SNE compares two or more')
    if len(known) < args.classes:
        print(f'note: there are only {len(known)} classes', file=sys.stderr)
    classes = np.sort(rng.choice(known, min(args.classes, len(known)), replace=False))
    shown = np.concatenate([np.sort(rng.permutation(np.flatnonzero(labels == label))[:args.max_per_class])
                            for label in classes])
    if len(shown) <= max(args.perplexity, len(classes)):
        raise cli.InputError(f'{len(shown)} clips of {len(classes)} classes are too few for --perplexity '
                             f'{args.perplexity}: lower it, or show more --classes')
    return classes, shown


def check_spread(sources, shown, part):
    """InputError where the clips `shown` of a part cannot be told apart."""
    for source in sources:
        values = of_part(source.data, part)[0]
        if values.shape[1] < 2 or not np.ptp(values[shown], 0).any():
            raise cli.InputError(f'{source.title}: the features of all clips are the same, so there is nothing to show')


def panel(source, classes, shown, args):
    """What is drawn of a source: the clips `shown` of the part, all of these classes."""
    values, labels = of_part(source.data, args.part)
    return tsne_figure.Panel(source.title, embed(values[shown], args.perplexity, args.seed),
                             accuracy(source.data, classes, shown, args.part),
                             silhouette(values[shown], labels[shown]))


def embed(values, perplexity, seed):
    """Points (P, 2) of features (P, D): PCA, then t-SNE."""
    from sklearn.decomposition import PCA  # a second to import, which a mistake on the command line need not take
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits
    with threadpool_limits(1):  # sums over several threads come out a little different each time
        reduced = PCA(min(PCA_DIMENSIONS, *values.shape), random_state=seed).fit_transform(values)
        return TSNE(perplexity=perplexity, init='pca', learning_rate='auto', random_state=seed).fit_transform(reduced)


def accuracy(data, classes, shown, part):
    """k-NN accuracy (%), k = 1, of the clips `shown` of a part among the training clips of these classes."""
    values, labels = of_part(data, part)
    train, train_labels = of_part(data, 'train')
    rivals = np.flatnonzero(np.isin(train_labels, classes))
    train, train_labels = train[rivals], train_labels[rivals]
    correct = 0
    for block in np.array_split(shown, -(-len(shown) // CLIPS_AT_ONCE)):
        similar = values[block] @ train.T
        if part == 'train':
            similar[block[:, None] == rivals] = -np.inf  # a clip is no neighbour of itself
        correct += (train_labels[similar.argmax(1)] == labels[block]).sum()
    return 100 * correct / len(shown)


def silhouette(values, labels):
    from sklearn.metrics import silhouette_score
    return float(silhouette_score(values, labels, metric='cosine'))


def class_names(source, classes):
    """What the legend calls the classes: as the data set's manifest does, or A001 for label 0, as in NTU RGB+D."""
    _, names = features.classes(source.args, source.data.train_labels, source.data.val_labels)
    return [str(names[label]) if names else f'A{label + 1:03d}' for label in classes]


if __name__ == '__main__':
    cli.run(main)
