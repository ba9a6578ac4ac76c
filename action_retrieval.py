"""Retrieval: each test clip takes the label that its nearest training clips vote for (cosine, uniform votes).

    python action_retrieval.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --finetune-dataset ntu60 --protocol cross_subject --knn-neighbours 1

Nothing is trained. Runs on one GPU or on the CPU; memory is bounded, whatever the number of clips.
"""
import torch
from torch.nn.functional import normalize

from data_gen import cli
from tools import features, options, results
from tools.device import select

SIMILARITIES_AT_ONCE = 1 << 25  # 128 MB of float32


def main(argv=None):
    args = parse(argv)
    data = features.from_args(args, select(args.device))
    if args.knn_neighbours > len(data.train):
        raise cli.InputError(f'--knn-neighbours {args.knn_neighbours}: there are only {len(data.train)} training clips')
    classes, class_names = features.classes(args, data)
    predictions = knn(data.train, data.train_labels, data.val, args.knn_neighbours, classes)
    accuracy = 100 * (predictions == data.val_labels).float().mean().item()

    print(f'k-NN retrieval (k = {args.knn_neighbours}), {args.dataset} {args.protocol}, {"+".join(args.modalities)}: '
          f'{len(data.val)} test clips query {len(data.train)} training clips')
    print(f'accuracy: {accuracy:.2f} %')
    if args.results:
        results.write(args.results, args, task='k-NN retrieval', accuracy=accuracy, predictions=predictions,
                      labels=data.val_labels, class_names=class_names)


def parse(argv):
    parser = cli.Parser(__doc__)
    options.add_evaluation_flags(parser)
    parser.add_argument('--knn-neighbours', type=cli.positive, default=1, metavar='K', help='voters (default 1)')
    parser.add_argument('-b', '--batch-size', type=cli.positive, default=512,
                        help='clips the encoder sees at once (default 512)')
    nothing = 'nothing is trained'
    options.add_ignored_flags(
        parser, workers='the clips lie on the device, there are no loader workers', epochs=nothing, start_epoch=nothing,
        lr=nothing, schedule=nothing, momentum=nothing, weight_decay=nothing, print_freq=nothing, resume=nothing,
        cos=nothing, world_size='one process is enough', dist_url='one process is enough',
        local_rank='one process is enough')
    return options.parse(parser, argv)


@torch.inference_mode()
def knn(train, train_labels, queries, k, classes):
    """Labels (Q,) voted by the k training clips (N, D) most similar by cosine to each query (Q, D).

    Every neighbour has one vote; among labels with equal votes the smallest wins.
    """
    train, queries = normalize(train), normalize(queries)
    favour_small = torch.arange(classes, 0, -1, device=train.device)  # below one vote's worth
    predictions = []
    for block in cli.progress(queries.split(max(1, SIMILARITIES_AT_ONCE // len(train))), 'retrieval', leave=False):
        neighbours = train_labels[(block @ train.T).topk(k).indices]
        votes = torch.zeros(len(block), classes, dtype=torch.long, device=train.device)
        votes.scatter_add_(1, neighbours, torch.ones_like(neighbours))
        predictions.append((votes * (classes + 1) + favour_small).argmax(1))
    return torch.cat(predictions)


if __name__ == '__main__':
    cli.run(main)
