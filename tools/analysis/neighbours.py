"""What does an encoder find alike? Test clips with the training clips nearest to them, as a contact sheet.

    python -m tools.analysis.neighbours --pretrained checkpoint_0450.pth.tar --out neighbours
    python -m tools.analysis.neighbours --load-features features.npz --worst --out mistakes

A row is a test clip, on the left, and the training clips nearest to it, with their cosine similarities. Right ones, of
the same class, have a check mark and a solid blue frame, wrong ones a cross and a dashed orange frame. Three poses stand
for a clip. The test clips are drawn at random (--seed) or named by --names. --worst shows clips whose nearest neighbour
is wrong, one for each of the most frequent confusions.
"""
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn.functional import normalize

from data_gen import cli
from data_gen.reader import SplitReader
from tools import options
from tools.analysis import confusion, drawing
from tools.device import select
from tools.evaluation import feature_files
from tools.evaluation.features import classes_of, load_or_extract
from tools.evaluation.knn import knn_search

STEP = 0.55  # between the poses of a clip, of a square
WIDTH = 1 + 2 * STEP
MARKS = {True: ('✓', drawing.COLOURS[0], '-'), False: ('✗', drawing.COLOURS[3], '--')}


def main(argv=None):
    args = parse_args(argv)
    data, subset = (args.data_root, args.dataset, args.protocol), tuple(args.modalities)
    folder = options.data_folder(*data)
    train_clips, val_clips = (SplitReader(folder, split) for split in ('train', 'val'))
    features, origin = load_or_extract([subset], *data, args.pretrained, args.load_features, None, args.extract_batch,
                                       args.amp, select(args.device))
    train, train_labels, val, val_labels = (tensor.cpu() for tensor in features[subset])
    if ((train_labels.tolist(), val_labels.tolist()) != (train_clips.labels, val_clips.labels)
            or origin.val_names not in (None, val_clips.names)):
        raise cli.InputError(f'{args.load_features} has features of other clips than {folder}: name their data set')
    if args.neighbours > len(train):
        raise cli.InputError(f'--neighbours {args.neighbours}: there are {len(train)} training clips')
    train, val = normalize(train), normalize(val)
    neighbours, _ = knn_search([train], [val], args.neighbours)
    if args.names:
        queries = [cli.position(name, val_clips.names, 'test clip') for name in args.names]
    elif args.worst:
        queries = mistakes(val_labels.numpy(), train_labels[neighbours[:, 0]].numpy(), args.queries)
    else:
        rng = np.random.default_rng(args.seed)
        queries = np.sort(rng.permutation(len(val))[:args.queries]).tolist()
    similarities = (val[queries][:, None] * train[neighbours[queries]]).sum(2)
    _, class_names = classes_of(*data, train_labels, val_labels)

    def cell(clips, number):
        label = clips.labels[number]
        label = class_names[label] if class_names else f'A{label + 1:03d}'
        return clips.names[number].removesuffix('.skeleton'), label, clips.frames(number, number + 1)

    rows = [(cell(val_clips, query), [(*cell(train_clips, near), similarity) for near, similarity
                                      in zip(neighbours[query].tolist(), nearness, strict=True)])
            for query, nearness in zip(queries, similarities.tolist(), strict=True)]
    for (name, label, _), found in rows:
        print(f'{name} {label}: ' + ', '.join(f'{other} {similarity:.3f}' for _, other, _, similarity in found))
    drawing.save(args.out, draw(rows))
    print(f'{args.out}.png and .pdf')


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('--pretrained', type=Path, metavar='CHECKPOINT', help='from pretrain.py or the official code')
    flag('--load-features', type=Path, metavar='FILE.npz', help='of --save-features, instead of a checkpoint')
    flag('--out', type=Path, required=True, metavar='FILE', help='write FILE.png and FILE.pdf')
    flag('--queries', type=cli.positive_int, default=6, metavar='N', help='test clips (default 6)')
    flag('-k', '--neighbours', type=cli.positive_int, default=5, metavar='K', help='of each (default 5)')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--worst', action='store_true', help='clips of the classes that are confused most')
    which.add_argument('--names', nargs='+', metavar='NAME', help='these test clips')
    flag('--extract-batch', type=cli.positive_int, metavar='N', help='default 512; 64 on a CPU')
    options.add_data_flags(parser, '--finetune-dataset', before="that of the encoder's pre-training, else ")
    options.add_modalities_flag(parser)
    options.add_machine_flags(parser, amp='off')
    args = options.parse_args(parser, argv, feature_files.read_source)
    args.out = drawing.output(args.out)
    return args


def mistakes(labels: np.ndarray, nearest: np.ndarray, number: int) -> list[int]:
    """One clip of each of the most frequent confusions of labels (M,) with those of the nearest neighbours (M,)."""
    classes, counts = confusion.count(labels, nearest)
    pairs = [classes[list(pair)] for pair in confusion.worst(counts, number)]
    if not pairs:
        raise cli.InputError('--worst: the nearest neighbour of each test clip is right; leave --worst out')
    return [int(np.flatnonzero((labels == true) & (nearest == other))[0]) for true, other in pairs]


@drawing.styled
def draw(rows: list[tuple]) -> Figure:
    """Rows of a query (name, class, poses (T, M, 25, 3)) and its neighbours (name, class, poses, similarity)."""
    width, height, columns = WIDTH + 0.2, 1.45, 1 + len(rows[0][1])
    ax = drawing.canvas(columns * width + 0.2, len(rows) * height, min(0.62, 14 / columns / width))
    for row, (query, found) in enumerate(reversed(rows)):
        for column, (name, label, poses, *similarity) in enumerate([query, *found]):
            corner = column * width + (0.2 if column else 0.05), row * height + 0.05
            poses, _ = drawing.evenly(poses, 5)
            poses = poses[1:-1] if len(poses) == 5 else poses[:3]
            drawing.draw_poses(ax, poses, np.array(corner) + [(STEP * number, 0) for number in range(len(poses))], 0.8)
            mark, colour, line = MARKS[label == query[1]] if column else ('', 'black', None)
            if column:
                ax.add_patch(Rectangle(corner, WIDTH, 1, fill=False, edgecolor=colour, linestyle=line, linewidth=1))
            short = label if len(label) < 21 else f'{label[:20]}…'
            ax.text(corner[0], corner[1] + 1.22, f'{mark} {short}'.strip(), color=colour, va='center', fontsize=7)
            ax.text(corner[0], corner[1] + 1.08, f'{similarity[0]:.3f}  {name}' if column else name, fontsize=4.5,
                    va='center', color='#444444', clip_on=True)
    return ax.figure


if __name__ == '__main__':
    cli.run(main)
