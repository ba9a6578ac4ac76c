"""What does an encoder find alike? Test clips with the training clips nearest to them, as a contact
sheet.

    python action_retrieval.py --pretrained checkpoint_0450.pth.tar --save-features features.npz
    python -m tools.analysis.neighbours features.npz --worst --out mistakes

A row is a test clip, on the left, and the training clips nearest to it, with their cosine
similarities. Right ones, of the same class, have a check mark and a solid blue frame, wrong ones a
cross and a dashed orange frame. Three poses stand for a clip. The test clips are drawn at random
(--seed) or named by --names. --worst shows clips whose nearest neighbour is wrong, one for each of
the most frequent confusions.
"""

import tools.common.start  # noqa: F401

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn.functional import normalize

from data_gen.protocols import Data
from data_gen.reader import SplitReader
from tools import options
from tools.analysis import confusion, drawing
from tools.common import cli
from tools.evaluation import feature_files
from tools.evaluation.features import load_features
from tools.evaluation.knn import knn_search

STEP = 0.55  # between the poses of a clip; a pose has a square of side 1
WIDTH = 1 + 2 * STEP
MARKS = {True: ('✓', drawing.COLOURS[0], '-'), False: ('✗', drawing.COLOURS[3], '--')}


def main(argv=None):
    args = parse_args(argv)
    source = feature_files.read_source(args.features)
    data = Data(
        args.data_root,
        args.dataset or source.dataset or 'ntu60',
        args.protocol or source.protocol or 'cross_subject',
    )
    train_clips, val_clips = (SplitReader(data.folder, split) for split in ('train', 'val'))
    subset = (source.subsets or [()])[-1]
    frozen = load_features(args.features, [subset], data)
    train, train_labels, val, val_labels = frozen.first
    same_clips = (
        train_labels.tolist() == train_clips.labels
        and val_labels.tolist() == val_clips.labels
        and frozen.origin.val_names in (None, val_clips.names)
    )
    if not same_clips:
        raise cli.InputError(
            f'{args.features} has features of other clips than {train_clips.folder}'
        )
    if args.neighbours > len(train):
        raise cli.InputError(
            f'--neighbours {args.neighbours}: there are {len(train)} training clips'
        )
    train, val = normalize(train), normalize(val)
    neighbours, _ = knn_search([train], [val], args.neighbours)
    if args.names:
        queries = [cli.position(name, val_clips.names, 'test clip') for name in args.names]
    elif args.worst:
        queries = mistakes(val_labels.numpy(), train_labels[neighbours[:, 0]].numpy(), args.queries)
    else:
        queries = np.random.default_rng(args.seed).permutation(len(val))[: args.queries].tolist()
    rows = []
    for query in queries:
        row = [read_cell(data, val_clips, query, '')]
        for near in neighbours[query].tolist():
            similarity = f'{train[near] @ val[query]:.3f}  '
            row.append(read_cell(data, train_clips, near, similarity))
        rows.append(row)
    drawing.save(args.out, draw(rows))


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('features', type=Path, metavar='FEATURES.npz', help='of --save-features')
    flag('--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf')
    flag('--queries', type=cli.positive_int, default=6, metavar='N', help='test clips (default 6)')
    flag(
        '-k',
        '--neighbours',
        type=cli.positive_int,
        default=5,
        metavar='K',
        help='of each (default 5)',
    )
    flag('--worst', action='store_true', help='clips of the classes that are confused most')
    flag('--names', nargs='+', metavar='NAME', help='these test clips')
    flag('--seed', type=cli.non_negative_int, default=0, help='of the test clips drawn (default 0)')
    options.add_data_flags(parser, *options.DATASET_FLAGS, before='that of the features, else ')
    args = parser.parse_args(argv)
    args.out = drawing.output(args.out)
    return args


def read_cell(data: Data, clips: SplitReader, number: int, similarity: str) -> tuple:
    """(class, similarity and name, poses (T, M, 25, 3)) of a clip."""
    label = data.class_name(clips.labels[number])
    return label, similarity + clips.names[number].removesuffix('.skeleton'), clips.frames([number])


def mistakes(labels: np.ndarray, nearest: np.ndarray, number: int) -> list[int]:
    """One clip of each of the most frequent confusions of labels (M,) with those of the nearest
    neighbours (M,).
    """
    classes, counts = confusion.count(labels, nearest)
    pairs = [classes[list(pair)] for pair in confusion.worst(counts)[:number]]
    if not pairs:
        raise cli.InputError(
            '--worst: the nearest neighbour of each test clip is right; leave --worst out'
        )
    return [int(np.flatnonzero((labels == true) & (nearest == other))[0]) for true, other in pairs]


@drawing.styled
def draw(rows: list[list[tuple]]) -> Figure:
    """Rows of cells (class, caption, poses (T, M, 25, 3)); the first of each is the query."""
    width, height, columns = WIDTH + 0.2, 1.45, len(rows[0])
    ax = drawing.canvas(columns * width, len(rows) * height, min(0.62, 14 / columns / width))
    for row, cells in enumerate(reversed(rows)):
        for column, (label, caption, poses) in enumerate(cells):
            x, y = column * width + 0.1, row * height + 0.05
            poses = drawing.evenly(poses, 5)[1:-1] if len(poses) > 4 else poses[:3]
            drawing.draw_poses(
                ax, poses, np.array([(x + STEP * number, y) for number in range(len(poses))]), 0.8
            )
            mark, colour, line = MARKS[label == cells[0][0]] if column else ('', 'black', '')
            if column:
                ax.add_patch(
                    Rectangle((x, y), WIDTH, 1, fill=False, edgecolor=colour, linestyle=line)
                )
            size = np.clip(
                145 / len(label), 4.5, 7
            )  # a long name must fit: its end may tell two classes apart
            ax.text(
                x,
                y + 1.22,
                f'{mark} {label[:40]}'.strip(),
                color=colour,
                va='center',
                fontsize=size,
            )
            ax.text(x, y + 1.08, caption[:40], fontsize=4.5, va='center')
    return ax.figure


if __name__ == '__main__':
    cli.run(main)
