"""k-NN retrieval: each test clip gets the label that its nearest training clips vote for (cosine,
uniform votes).

    python action_retrieval.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --finetune-dataset ntu60 --protocol cross_subject --knn-neighbours 1

Besides this accuracy (the published number) it reports mean average precision over the ranking of
all training clips, and recall at 1, 5 and 10: how many test clips have a clip of their class among
the first 1, 5 or 10. Both leave out test clips whose class has no training clip.

Nothing is trained. Runs on one GPU or on the CPU, in bounded memory.
"""

import torch
from torch.nn.functional import normalize

from tools import options, results, scores
from tools.common import cli
from tools.device import memory_advice, select
from tools.distributed import first_process_only
from tools.evaluation import feature_files
from tools.evaluation.features import input_hashes, load_or_extract
from tools.evaluation.knn import knn_search, vote
from tools.evaluation.late_fusion import fusion_rows, main_row, needed_subsets, row_facts

RECALL_AT = (1, 5, 10)
COLUMNS = {'mAP': 'mean_average_precision'} | {f'recall@{k}': f'recall_at_{k}' for k in RECALL_AT}
CONFIGURATION = (
    'dataset',
    'protocol',
    'modalities',
    'ensemble',
    'all_modalities',
    'knn_neighbours',
    'amp',
    'tf32',
)


@memory_advice('use a smaller --extract-batch or --block')
def main(argv=None):
    args = parse_args(argv)
    if not first_process_only():
        return
    rows = fusion_rows(args.modalities, args.ensemble, args.all_modalities)
    data = options.data_of(args)
    config = {'task': 'k-NN retrieval'} | {name: getattr(args, name) for name in CONFIGURATION}
    if args.results:
        config |= input_hashes(data, args.pretrained, args.load_features)
    if args.skip_finished and results.is_finished(args.results, config):
        return
    features, origin, _ = load_or_extract(
        needed_subsets(rows),
        data,
        args.pretrained,
        args.load_features,
        args.save_features,
        args.extract_batch,
        args.amp,
        select(args.device),
    )

    _, train_labels, _, labels = next(iter(features.values()))
    if args.knn_neighbours > len(train_labels):
        raise cli.InputError(
            f'--knn-neighbours {args.knn_neighbours}: there are {len(train_labels)} training clips'
        )
    num_classes = data.num_classes(torch.cat((train_labels, labels)).cpu())
    class_names = data.class_names
    for values in features.values():
        normalize(
            values.train, out=values.train
        )  # in place: at full size a copy takes half a gigabyte
        normalize(values.val, out=values.val)
    table = [
        {
            'modalities': row.name,
            **row_facts(row, origin),
            **evaluate(
                [features[subset] for subset in row.subsets],
                args.knn_neighbours,
                num_classes,
                args.block,
                origin.performers,
            ),
        }
        for row in rows
    ]
    main_result = table[rows.index(main_row(rows))]

    print(
        f'k-NN retrieval (k = {args.knn_neighbours}), {args.dataset} {args.protocol}, '
        f'{main_result["modalities"]}: '
        f'{len(labels)} test clips query {len(train_labels)} training clips'
    )
    results.print_origin(origin.pretrained_on, args.dataset, args.protocol)
    report(main_result, table)
    if args.per_class:
        scores.write_per_class(
            args.per_class, labels, main_result['predictions'], num_classes, class_names
        )
    if args.results:
        several = {'table': scores.without_predictions(table)} if len(table) > 1 else {}
        results.write(
            args.results,
            config,
            **origin.record(),
            **main_result,
            **several,
            labels=labels,
            class_names=class_names,
        )


def parse_args(argv):
    parser = cli.Parser(__doc__)
    options.add_evaluation_flags(parser)
    flag = parser.add_argument
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
        metavar='N',
        help='as --extract-batch',
    )
    options.accept_official_flags(parser)
    args = options.parse_args(parser, argv, feature_files.read_source)
    options.try_outputs(args.results, args.per_class, args.save_features)
    return args


def evaluate(
    features, k: int, num_classes: int, block: int | None, performers: list | None = None
) -> dict:
    """The scores of one row: the features of one subset, or of several whose similarities are
    added.
    """
    train_labels, labels = features[0].train_labels, features[0].val_labels
    most = min(len(train_labels), max(k, *RECALL_AT))
    neighbours, precision = knn_search(
        [values.train for values in features],
        [values.val for values in features],
        most,
        (train_labels, labels),
        block,
    )
    neighbour_labels, known = train_labels[neighbours], ~precision.isnan()
    right = (neighbour_labels == labels[:, None]).float()
    per_clip = {'mean_average_precision': precision} | {
        f'recall_at_{first}': right[:, :first].amax(1) for first in RECALL_AT
    }
    percent = {
        name: 100 * values[known].mean().item() if known.any() else None
        for name, values in per_clip.items()
    }
    predictions = vote(neighbour_labels[:, :k], num_classes)
    return {
        **scores.accuracy_summary(predictions, labels, num_classes, performers),
        **percent,
        'without_training_clip': len(labels) - int(known.sum()),
    }


def report(row: dict, table: list[dict]) -> None:
    """Print the scores of the main row, and the table if there are several rows."""
    print(f'accuracy: {scores.with_interval(row)}')
    print(f'mean per-class accuracy: {row["mean_class_accuracy"]:.2f} %')
    print(
        '  '.join(
            f'{title}: {scores.percent_or_dash(row[key])} %' for title, key in COLUMNS.items()
        )
    )
    if row['without_training_clip']:
        print(
            f'{row["without_training_clip"]} test clips have a class without training clips: they '
            'count in the '
            'accuracy only'
        )
    if len(table) > 1:
        print('\n' + scores.table(table, {'per class': 'mean_class_accuracy'} | COLUMNS))


if __name__ == '__main__':
    cli.run(main)
