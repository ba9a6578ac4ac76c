"""k-NN retrieval: each test clip gets the label that its nearest training clips vote for (cosine,
uniform votes).

    python action_retrieval.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --dataset ntu60 --protocol cross_subject --knn-neighbours 1

Besides this accuracy (the published number) it reports mean average precision over the ranking of
all training clips, and recall at 1, 5 and 10: how many test clips have a clip of their class among
the first 1, 5 or 10. Both leave out test clips whose class has no training clip.

Nothing is trained. Runs on one GPU or on the CPU, in bounded memory.
"""

import tools.common.start  # noqa: F401

import argparse
import sys

from torch.nn.functional import normalize

from tools import options, scores
from tools.common import cli
from tools.device import memory_advice
from tools.evaluation import evaluation
from tools.evaluation.feature_files import Features
from tools.evaluation.knn import knn_search, vote
from tools.evaluation.late_fusion import late_fusion, row_facts

RECALL_AT = (1, 5, 10)
COPY = 1 - 1e-6  # cosine of clips whose features are the same, to rounding
COLUMNS = {'mAP': 'mean_average_precision'} | {f'recall@{k}': f'recall_at_{k}' for k in RECALL_AT}


@memory_advice('use a smaller --extract-batch or --block')
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    k = args.knn_neighbours
    retrieval = evaluation.begin(args, 'k-NN retrieval', knn_neighbours=k)
    if retrieval is None:
        return
    frozen = retrieval.features()
    num_train = len(frozen.train_labels)
    if k > num_train:
        raise cli.InputError(f'--knn-neighbours {k}: there are {num_train} training clips')
    for values in frozen.by_subset.values():
        # In place: at full size a copy takes half a gigabyte.
        normalize(values.train, out=values.train)
        normalize(values.val, out=values.val)

    table = []
    for row in retrieval.rows:
        features = [frozen.by_subset[subset] for subset in row.subsets]
        found = evaluate(features, k, frozen.num_classes, args.block, frozen.origin.performers)
        table.append({'modalities': row.name} | row_facts(row, frozen.origin) | found)
    record = table[retrieval.rows.index(retrieval.main_row)]
    lines = report(record, table)
    if record['copies']:
        own = record['copies_with_own_label']
        print(
            f'note: {record["copies"]} test clips have a training clip at a cosine above 1 - 1e-6: '
            f'{own} with the same label, {record["copies"] - own} with another. Are clips in both '
            'splits?',
            file=sys.stderr,
        )
    if len(table) > 1:
        record = record | {'table': scores.without_predictions(table)}
    details = f'{len(frozen.labels)} test clips query {num_train} training clips, k = {k}'
    retrieval.finish(frozen, details, lines, record)


def parse_args(argv):
    parser = evaluation.new_parser(__doc__)
    evaluation.add_fusion_flags(parser)
    flag = parser.add_argument_group('retrieval').add_argument
    flag(
        '--knn-neighbours',
        type=cli.positive_int,
        default=1,
        metavar='K',
        help='how many neighbours vote (default 1)',
    )
    flag(
        '--block',
        type=cli.positive_int,
        metavar='N',
        help='test clips compared at a time (default: to take 128 MB)',
    )
    flag(
        '-b',
        '--batch-size',
        type=cli.positive_int,
        dest='extract_batch',
        default=argparse.SUPPRESS,
        metavar='N',
        help='as --extract-batch',
    )
    options.accept_official_flags(parser)
    return evaluation.parse_args(parser, argv)


def evaluate(
    features: list[Features],
    k: int,
    num_classes: int,
    block: int | None,
    performers: list | None = None,
) -> dict:
    """The scores of one row: the features of one subset, or of several whose similarities are
    added.
    """
    train_labels, labels = features[0].train_labels, features[0].val_labels
    neighbours, precision = knn_search(
        [values.train for values in features],
        [values.val for values in features],
        min(len(train_labels), max(k, *RECALL_AT)),
        (train_labels, labels),
        block,
    )
    neighbour_labels = train_labels[neighbours]
    predictions = vote(neighbour_labels[:, :k], num_classes)
    right = (neighbour_labels == labels[:, None]).float()
    per_clip = {'mean_average_precision': precision}
    for first in RECALL_AT:
        per_clip[f'recall_at_{first}'] = right[:, :first].amax(1)
    known = ~precision.isnan()
    summary = scores.accuracy_summary(predictions, labels, num_classes, performers)
    for name, values in per_clip.items():
        summary[name] = 100 * values[known].mean().item() if known.any() else None
    nearest = neighbours[:, 0]
    cosines = [(values.val * values.train[nearest]).sum(1) for values in features]
    copied = late_fusion(cosines) > len(features) * COPY
    summary['copies'] = int(copied.sum())
    summary['copies_with_own_label'] = int(right[copied, 0].sum())
    summary['without_training_clip'] = len(labels) - int(known.sum())
    return summary


def report(row: dict, table: list[dict]) -> str:
    """Lines of text: the scores of the main row, and the table if there are several rows."""
    shares = [f'{title}: {scores.percent_or_dash(row[key])} %' for title, key in COLUMNS.items()]
    lines = [
        f'accuracy: {scores.with_interval(row)}',
        f'mean per-class accuracy: {row["mean_class_accuracy"]:.2f} %',
        '  '.join(shares),
    ]
    if row['without_training_clip']:
        lines.append(
            f'{row["without_training_clip"]} test clips have a class without training clips: they '
            'count in the accuracy only'
        )
    if len(table) > 1:
        columns = {'per class': 'mean_class_accuracy'} | COLUMNS
        lines.append('\n' + scores.table(table, columns))
    return '\n'.join(lines)


if __name__ == '__main__':
    cli.run(main)
