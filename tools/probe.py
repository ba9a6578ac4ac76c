"""Linear probes on fixed features: one head for each learning rate, all trained on the same batches at once."""
import torch
from torch import nn
from torch.nn import functional

from data_gen.cli import InputError, progress
from feeder.feeders import generator_at
from tools import scores
from tools.schedule import factor

DEFAULTS = {'lr': [0.03], 'batch_size': 512, 'epochs': 150, 'schedule': [120, 140]}  # the release's
EVALUATE_EVERY = 5  # epochs; the release reports the best of these looks at the test part


class Heads:
    """L linear heads D -> C with the same start: weight (L, C, D), bias (L, C)."""

    def __init__(self, head, count):
        """`count` copies of an nn.Linear, on its device."""
        self.weight = head.weight.detach().repeat(count, 1, 1)
        self.bias = head.bias.detach().repeat(count, 1)

    def __call__(self, data):
        """Features (N, D) -> logits (L, C, N), in one matrix product; it is faster this way round."""
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        return torch.addmm(bias[:, None], weight, data.T).unflatten(0, self.bias.shape)


def linear_head(features, classes, seed):
    """Linear features -> classes, weights N(0, 0.01), bias 0, as in the release."""
    head = nn.Linear(features, classes)
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    return head


def probe(data, rows, classes, args):
    """Train on {subset: Features} and score `rows`, see features.rows: {name: a dict of scores for each of args.lr}.

    The subsets' heads learn side by side. A row of several subsets is their late fusion: the mean of the heads' logits.
    """
    labels = next(iter(data.values())).val_labels
    heads = {subset: Heads(linear_head(part.train.shape[1], classes, args.seed).to(labels.device), len(args.lr))
             for subset, part in data.items()}
    fits = [fit(heads[subset], part.train, part.train_labels, orders(len(part.train), args), args)
            for subset, part in data.items()]
    looks = {}
    epochs = progress(zip(*fits, strict=True), 'probe', args.epochs, 'epoch')
    for epoch, losses in enumerate(epochs, 1):  # noqa: B007, those of the last one are reported
        if epoch % EVALUATE_EVERY == 0 or epoch == args.epochs:
            check(losses, epoch, args)
            logits = {subset: heads[subset](part.val) for subset, part in data.items()}
            best = {name: five_best([logits[subset] for subset in subsets]) for name, subsets in rows.items()}
            looks[epoch] = {name: (five[:, 0] == labels).sum(1) for name, five in best.items()}
    losses = dict(zip(map('+'.join, data), losses, strict=True))
    return {name: [{'modalities': name, 'lr': lr, **last_epoch(five[head], labels, classes, args.seed),
                    **best_seen({epoch: look[name][head].item() for epoch, look in looks.items()}, len(labels)),
                    'training_loss': losses[name][head].item() if name in losses else None}
                   for head, lr in enumerate(args.lr)] for name, five in best.items()}


def orders(clips, args):
    """The clips' order in each epoch."""
    return (torch.randperm(clips, generator=generator_at(args.seed, epoch)) for epoch in range(args.epochs))


def fit(heads, data, labels, orders, args):
    """Train `heads` by SGD on features (N, D) and labels (N,); yields each epoch's mean losses (L,).

    orders: a permutation of the N clips for each epoch. args: lr (L of them), momentum, weight_decay, batch_size, and
    the schedule. The gradient of the cross-entropy is written out, which saves a quarter of the time that autograd and
    torch.optim.SGD take. Nothing waits for the device within an epoch.
    """
    targets = functional.one_hot(labels, heads.bias.shape[1]).to(data)
    parameters = heads.weight.flatten(0, 1), heads.bias.flatten()[:, None]  # views: the heads' classes as one long list
    weight_step, bias_step = steps = [torch.zeros_like(parameter) for parameter in parameters]
    for epoch, order in enumerate(orders):
        rate = torch.tensor([lr * factor(args, epoch) for lr in args.lr])
        rate = rate.to(data).repeat_interleave(heads.bias.shape[1])[:, None]
        total = torch.zeros(len(args.lr), device=data.device)
        for batch in order.to(data.device).split(args.batch_size):
            clips, target = data.index_select(0, batch), targets.index_select(0, batch).T
            logits = heads(clips)
            total -= (logits.log_softmax(1) * target).sum((1, 2))
            # softmax by itself: exp of a log_softmax is slow where it underflows
            gradient = (logits.softmax(1) - target).flatten(0, 1) / len(batch)
            weight_step.addmm_(gradient, clips, beta=args.momentum)
            bias_step.mul_(args.momentum).add_(gradient.sum(1, keepdim=True))
            for parameter, step in zip(parameters, steps, strict=True):
                if args.weight_decay:
                    step.add_(parameter, alpha=args.weight_decay)
                parameter.addcmul_(rate, step, value=-1)
        yield total / len(data)


def check(losses, epoch, args):
    """InputError where a head has diverged; losses: (L,) of each subset."""
    for lr, finite in zip(args.lr, torch.stack(losses).isfinite().all(0).tolist(), strict=True):
        if not finite:
            raise InputError(f'--lr {lr:g}: the loss is not finite after epoch {epoch}; choose a smaller one')


def five_best(logits):
    """The five best classes of each clip, best first, (L, 5, M), by the mean of several logits (L, C, M)."""
    mean = torch.stack(logits).mean(0)
    return mean.topk(min(5, mean.shape[1]), 1).indices


def last_epoch(five, labels, classes, seed):
    """Scores of the five best classes (5, M), best first."""
    top5 = 100 * (five == labels).any(0).sum().item() / len(labels)
    return scores.summary(five[0], labels, classes, seed) | {'top5_accuracy': top5}


def best_seen(correct, clips):
    """The best look of {epoch: how many of the clips were right}, the first of equals."""
    epoch = max(correct, key=correct.get)
    return {'best_accuracy': 100 * correct[epoch] / clips, 'best_epoch': epoch}
