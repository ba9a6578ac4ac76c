"""Linear probe: train one linear layer on a frozen encoder's features, report the accuracy on the test part.

    python action_recognition.py --pretrained ./checkpoints/ntu60_xsub/checkpoint_0450.pth.tar \\
        --finetune-dataset ntu60 --protocol cross_subject --lr 0.03 --batch-size 512

The encoder is frozen and sees whole clips, so its features never change: they are extracted once, and the probe trains
on them in seconds. `--lr 0.01 0.03 0.1` trains a probe with each at once; --ensemble and --all-modalities evaluate
several subsets of the modalities; --finetune trains the encoder too. Runs on one GPU or on the CPU; under torchrun all
processes share the extraction.
"""
from data_gen import cli
from tools import features, finetune, options, results, scores
from tools.distributed import process_group, rank
from tools.probe import DEFAULTS, probe

COLUMNS = {'top-5': 'top5_accuracy', 'per class': 'mean_class_accuracy', 'best seen': 'best_accuracy',
           'loss': 'training_loss'}


def main(argv=None):
    args = parse(argv)
    with process_group(args.device) as device:
        if args.finetune:
            finetune.run(args, device)
            return
        data = features.from_args(args, device)
        if rank():
            return  # one process fits the probe
    part = next(iter(data.values()))
    classes, class_names = features.classes(args, part.train_labels, part.val_labels)

    made = probe(data, features.rows(args), classes, args)  # {name: a dict of scores for each learning rate}
    chosen = features.chosen(args)
    report(args, part, made, chosen)
    first = made[chosen][0]
    if args.per_class:
        scores.write_per_class(args.per_class, part.val_labels, first['predictions'], classes, class_names)
    if args.results:
        by_lr = by_learning_rate(made, chosen)
        results.write(args.results, args, task='linear probe', **first | by_lr[0], by_lr=by_lr, labels=part.val_labels,
                      class_names=class_names)


def parse(argv):
    parser = cli.Parser(__doc__)
    options.add_evaluation_flags(parser)
    parser.add_argument('--epochs', type=cli.positive, help=default('epochs'))
    parser.add_argument('-b', '--batch-size', type=cli.positive, help=default('batch_size'))
    parser.add_argument('--lr', '--learning-rate', type=cli.fraction, nargs='+',
                        help=f'several: a probe with each, on the same batches; the first gives the main result '
                             f'({default("lr")})')
    parser.add_argument('--schedule', type=int, nargs='*',
                        help=f'epochs at which lr falls to a tenth ({default("schedule")})')
    parser.add_argument('--cos', action='store_true', help='cosine schedule in place of --schedule')
    parser.add_argument('--momentum', type=cli.fraction, default=0.9, help='default 0.9')
    parser.add_argument('--wd', '--weight-decay', dest='weight_decay', type=cli.fraction, default=0., help='default 0')
    finetune.add_flags(parser)
    options.add_ignored_flags(
        parser, workers='the clips lie on the device, there are no loader workers',
        print_freq='a progress bar shows the epochs', resume='the probe trains in seconds, from the start',
        start_epoch='the probe trains in seconds, from the start', world_size='torchrun sets the number of processes',
        dist_url='torchrun sets the address', local_rank='torchrun sets the rank')
    args = options.parse(parser, argv)
    settle(args)
    finetune.settle(args)
    return args


def default(name):
    probe_s, finetune_s = (str(values[name]).strip('[]').replace(',', '') for values in (DEFAULTS, finetune.DEFAULTS))
    return f'default {probe_s}; with --finetune {finetune_s}'


def settle(args):
    """Fill in the defaults that the probe and --finetune do not share; the probe's --lr is a list, --finetune's one."""
    if args.lr and len(set(args.lr)) < len(args.lr):
        raise cli.InputError(f'--lr has a value twice: {" ".join(map(str, args.lr))}')
    if args.lr and args.finetune:
        if len(args.lr) > 1:
            raise cli.InputError('--finetune takes one --lr')
        args.lr = args.lr[0]
    for name, value in (finetune.DEFAULTS if args.finetune else DEFAULTS).items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def report(args, part, made, chosen):
    """Print the chosen result of the first learning rate, and tables where there is more than that."""
    first = made[chosen][0]
    name = f'{"+".join(args.modalities)}, late fusion ({chosen})' if args.ensemble else chosen
    loss = '' if first['training_loss'] is None else f', last training loss {first["training_loss"]:.4f}'
    print(f'linear probe, {args.dataset} {args.protocol}, {name}: '
          f'{len(part.train)} training clips, {len(part.val)} test clips{loss}')
    results.print_origin(args)
    print(f'top-1 accuracy, last epoch:  {scores.with_interval(first)}')
    print(f'top-5 accuracy, last epoch:  {first["top5_accuracy"]:.2f} %')
    print(f'mean per class, last epoch:  {first["mean_class_accuracy"]:.2f} %')
    print(f'top-1 accuracy, best seen:   {first["best_accuracy"]:.2f} % (epoch {first["best_epoch"]}; chosen on the '
          'test part, which is how the release reports)')
    if len(made) > 1:
        for number, lr in enumerate(args.lr):
            print(f'\nlr {lr:g}')
            print(scores.table([rows[number] for rows in made.values()], COLUMNS))
    elif len(args.lr) > 1:
        print(scores.table([row | {'modalities': f'lr {row["lr"]:g}'} for row in made[chosen]], COLUMNS))
    if len(args.lr) > 1:
        print(f'(the lines above the table: lr {args.lr[0]:g}, the first given; to choose an lr by these numbers is to '
              'choose on the test part)')


def by_learning_rate(made, chosen):
    """For the results file: of each learning rate the chosen result and, where there are several, a table of them all;
    without the predictions."""
    by_lr = []
    for of_lr in zip(*made.values(), strict=True):
        rows = dict(zip(made, scores.without_predictions(of_lr), strict=True))
        by_lr.append(rows[chosen] | ({'table': list(rows.values())} if len(rows) > 1 else {}))
    return by_lr


if __name__ == '__main__':
    cli.run(main)
