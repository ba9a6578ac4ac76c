"""Semi-supervised draws: which clips of the training part keep their labels."""
import torch

from feeder.feeders import generator_at

DRAWS = ('random', 'balanced')


def draw(labels, ratio, how, seed, repeat):
    """Indices, ascending, of the clips drawn from a training part with these labels (N,), all on the CPU.

    random: round(ratio * N) clips, at least one, without replacement. balanced: of each class that has clips
    round(ratio * N / classes), at least one, and all of a class that has fewer. One (seed, ratio, repeat) always makes
    the same draw from the same labels.
    """
    order = torch.randperm(len(labels), generator=generator_at(seed, round(ratio * 1e9), repeat))
    if how == 'random':
        drawn = order[:at_least_one(ratio * len(labels))]
    else:
        present = labels.unique()
        each = at_least_one(ratio * len(labels) / len(present))
        drawn = torch.cat([order[labels[order] == label][:each] for label in present])
    return drawn.sort().values


def at_least_one(count):
    """The nearest whole number, from 1 on."""
    return max(1, round(count))
