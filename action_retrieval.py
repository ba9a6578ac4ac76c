"""Retrieval: each test clip takes the label that its nearest training clips vote for (cosine, uniform votes).

    python action_retrieval.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --finetune-dataset ntu60 --protocol cross_subject --knn-neighbours 1

Beside this accuracy, the published number: mean average precision, of the ranking of all training clips for each test
clip; and recall at 1, 5 and 10, the share of test clips with at least one clip of their class among the first so many.
Both leave out test clips whose class has no training clip, and say how many.

Nothing is trained. Runs on one GPU or on the CPU, extracts features on several under torchrun; memory is bounded,
whatever the number of clips.
"""
from torch.nn.functional import normalize

from data_gen import cli
from tools import features, options, results, scores
from tools.distributed import process_group, rank
from tools.ranking import search, vote

RECALL_AT = (1, 5, 10)


def main(argv=None):
    args = parse(argv)
    with process_group(args.device) as device:
        data = features.from_args(args, device)
        if rank() != 0:
            return
    for part in data.values():
        unit(part)
    *_, part = data.values()  # they differ in nothing but the features
    if args.knn_neighbours > len(part.train):
        raise cli.InputError(f'--knn-neighbours {args.knn_neighbours}: there are only {len(part.train)} training clips')
    classes, class_names = features.classes(args, part.train_labels, part.val_labels)
    table = {name: {'modalities': name} | evaluate([data[subset] for subset in subsets], args, classes)
             for name, subsets in features.rows(args).items()}
    chosen = table[features.chosen(args)]

    print(f'k-NN retrieval (k = {args.knn_neighbours}), {args.dataset} {args.protocol}, {chosen["modalities"]}: '
          f'{len(part.val)} test clips query {len(part.train)} training clips')
    results.print_origin(args)
    report(chosen, table.values())
    if args.per_class:
        scores.write_per_class(args.per_class, part.val_labels, chosen['predictions'], classes, class_names)
    if args.results:
        whole = {'table': scores.without_predictions(table.values())} if len(table) > 1 else {}
        results.write(args.results, args, task='k-NN retrieval', **chosen, **whole, labels=part.val_labels,
                      class_names=class_names)


def parse(argv):
    parser = cli.Parser(__doc__)
    options.add_evaluation_flags(parser)
    parser.add_argument('--knn-neighbours', type=cli.positive, default=1, metavar='K', help='voters (default 1)')
    parser.add_argument('--block', type=cli.positive, metavar='N',
                        help='test clips compared at once (default: as many as take 128 MB)')
    parser.add_argument('-b', '--batch-size', type=cli.positive, dest='extract_batch', metavar='N',
                        help='the same as --extract-batch')
    nothing = 'nothing is trained'
    options.add_ignored_flags(
        parser, workers='the clips lie on the device, there are no loader workers', epochs=nothing, start_epoch=nothing,
        lr=nothing, schedule=nothing, momentum=nothing, weight_decay=nothing, print_freq=nothing, resume=nothing,
        cos=nothing, world_size='torchrun or SLURM sets the number of processes',
        dist_url='torchrun or SLURM sets the address', local_rank='torchrun or SLURM sets the rank')
    return options.parse(parser, argv)


def unit(data):
    """Scale the features to length 1, in place: at full size a copy is half a gigabyte."""
    for part in (data.train, data.val):
        normalize(part, out=part)


def evaluate(parts, args, classes):
    """The scores of one line of the table, of the features of one subset, or of several whose similarities add up."""
    train_labels, labels = parts[0].train_labels, parts[0].val_labels
    neighbours, precision = search([part.train for part in parts], [part.val for part in parts],
                                   min(len(train_labels), max(args.knn_neighbours, *RECALL_AT)),
                                   (train_labels, labels), args.block)
    neighbours = train_labels[neighbours]
    known = ~precision.isnan()
    score = scores.summary(vote(neighbours[:, :args.knn_neighbours], classes), labels, classes, args.seed)
    score['mean_average_precision'] = percent(precision[known])
    for first in RECALL_AT:
        score[f'recall_at_{first}'] = percent((neighbours[:, :first] == labels[:, None]).any(1)[known])
    return score | {'without_training_clip': len(labels) - int(known.sum())}


def percent(values):
    """100 x the mean; None of nothing."""
    return 100 * values.float().mean().item() if len(values) else None


def report(row, rows):
    """Print the scores of the chosen row, and the table if there are more."""
    columns = {'mAP': 'mean_average_precision'} | {f'recall@{first}': f'recall_at_{first}' for first in RECALL_AT}
    print(f'accuracy: {scores.with_interval(row)}')
    print(f'mean per-class accuracy: {row["mean_class_accuracy"]:.2f} %')
    print('  '.join(f'{title}: {scores.shown(row[key])} %' for title, key in columns.items()))
    if row['without_training_clip']:
        print(f'{row["without_training_clip"]} test clips, of classes without a training clip, count in accuracy alone')
    if len(rows) > 1:
        print('\n' + scores.table(rows, {'per class': 'mean_class_accuracy'} | columns))


def knn(train, train_labels, queries, k, classes, block=None):
    """Labels (Q,) voted by the k training clips (N, D) most similar by cosine to each query (Q, D).

    Every neighbour has one vote; among labels with equal votes the smallest wins.
    """
    neighbours, _ = search([normalize(train)], [normalize(queries)], k, block=block)
    return vote(train_labels[neighbours], classes)


if __name__ == '__main__':
    cli.run(main)
