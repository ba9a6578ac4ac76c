"""Linear probe: train one linear layer on a frozen encoder's features, report the accuracy on the test part.

    python action_recognition.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --finetune-dataset ntu60 --protocol cross_subject --lr 0.03 --batch-size 512

The encoder is frozen and sees whole clips, so its features never change: they are extracted once, and the probe trains
on them in seconds. Runs on one GPU or on the CPU.
"""
import torch
from torch import nn
from torch.nn import functional

from data_gen import cli
from feeder.feeders import generator_at
from tools import features, options, results
from tools.device import select
from tools.schedule import learning_rate, set_learning_rate

EVALUATE_EVERY = 5  # epochs; the release reports the best of these looks at the test part


def main(argv=None):
    args = parse(argv)
    device = select(args.device)
    data = features.from_args(args, device)
    classes, class_names = features.classes(args, data)
    head = linear_head(data.train.shape[1], classes, args.seed).to(device)
    orders = (torch.randperm(len(data.train), generator=generator_at(args.seed, epoch)) for epoch in range(args.epochs))

    best = {'best_accuracy': 0.0, 'best_epoch': 0}
    epochs = fit(head, data.train, data.train_labels, orders, args)
    for epoch, loss in enumerate(cli.progress(epochs, 'probe', args.epochs, 'epoch'), 1):  # noqa: B007, shown below
        if epoch % EVALUATE_EVERY == 0 or epoch == args.epochs:
            scores = evaluate(head, data.val, data.val_labels)
            if scores['accuracy'] > best['best_accuracy']:
                best = {'best_accuracy': scores['accuracy'], 'best_epoch': epoch}

    print(f'linear probe, {args.dataset} {args.protocol}, {"+".join(args.modalities)}: '
          f'{len(data.train)} training clips, {len(data.val)} test clips, last training loss {loss:.4f}')
    print(f'top-1 accuracy, last epoch:  {scores["accuracy"]:.2f} %')
    print(f'top-5 accuracy, last epoch:  {scores["top5_accuracy"]:.2f} %')
    print(f'top-1 accuracy, best seen:   {best["best_accuracy"]:.2f} % (epoch {best["best_epoch"]}; chosen on the test '
          'part, which is how the release reports)')
    if args.results:
        results.write(args.results, args, task='linear probe', **scores, **best, labels=data.val_labels,
                      class_names=class_names)


def parse(argv):
    parser = cli.Parser(__doc__)
    options.add_evaluation_flags(parser)
    parser.add_argument('--epochs', type=cli.positive, default=150, help='default 150')
    parser.add_argument('-b', '--batch-size', type=cli.positive, default=512, help='default 512')
    parser.add_argument('--lr', '--learning-rate', type=cli.fraction, default=0.03, help='default 0.03')
    parser.add_argument('--schedule', type=int, nargs='*', default=[120, 140],
                        help='epochs at which lr falls to a tenth (default 120 140)')
    parser.add_argument('--cos', action='store_true', help='cosine schedule in place of --schedule')
    parser.add_argument('--momentum', type=cli.fraction, default=0.9, help='default 0.9')
    parser.add_argument('--wd', '--weight-decay', dest='weight_decay', type=cli.fraction, default=0., help='default 0')
    options.add_ignored_flags(
        parser, workers='the clips lie on the device, there are no loader workers',
        print_freq='a progress bar shows the epochs', resume='the probe trains in seconds, from the start',
        start_epoch='the probe trains in seconds, from the start', world_size='one process is enough',
        dist_url='one process is enough', local_rank='one process is enough')
    return options.parse(parser, argv)


def linear_head(features, classes, seed):
    """Linear features -> classes, weights N(0, 0.01), bias 0, as in the release."""
    head = nn.Linear(features, classes)
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    return head


def fit(head, data, labels, orders, args):
    """Train `head` by SGD on features (N, D) and labels (N,); yields each epoch's mean loss.

    orders: a permutation of the N clips for each epoch. args: lr, momentum, weight_decay, batch_size, and the schedule.
    """
    optimizer = torch.optim.SGD(head.parameters(), args.lr, args.momentum, weight_decay=args.weight_decay)
    for epoch, order in enumerate(orders):
        set_learning_rate(optimizer, learning_rate(args, epoch))
        total = torch.zeros((), device=data.device)
        for batch in order.to(data.device).split(args.batch_size):
            loss = functional.cross_entropy(head(data[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
        yield (total / len(data)).item()


@torch.inference_mode()
def evaluate(head, data, labels):
    """Top-1 and top-5 accuracy in %, and the predictions (N,)."""
    top = head(data).topk(min(5, head.out_features)).indices
    hits = top == labels[:, None]
    return {'accuracy': 100 * hits[:, 0].float().mean().item(),
            'top5_accuracy': 100 * hits.any(1).float().mean().item(), 'predictions': top[:, 0]}


if __name__ == '__main__':
    cli.run(main)
