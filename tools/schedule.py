"""Learning rates by epoch."""
import math


def learning_rate(args, epoch):
    """--cos: a half cosine from --lr to 0 over --epochs; else a tenth less from each epoch of --schedule on."""
    if args.cos:
        return args.lr * 0.5 * (1 + math.cos(math.pi * epoch / args.epochs))
    return args.lr * 0.1 ** sum(epoch >= milestone for milestone in args.schedule)


def set_learning_rate(optimizer, lr):
    for group in optimizer.param_groups:
        group['lr'] = lr
