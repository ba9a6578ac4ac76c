"""Learning rates by epoch."""
import math


def learning_rate(args, epoch):
    return args.lr * factor(args, epoch)


def factor(args, epoch):
    """Of --lr; --cos: a half cosine from 1 to 0 over --epochs; else a tenth from each epoch of --schedule on."""
    if args.cos:
        return 0.5 * (1 + math.cos(math.pi * epoch / args.epochs))
    return 0.1 ** sum(epoch >= milestone for milestone in args.schedule)


def set_learning_rate(optimizer, lr):
    for group in optimizer.param_groups:
        group['lr'] = lr
