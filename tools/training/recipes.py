"""How the encoder is pre-trained: one row for each recipe, and the published batch sizes.

pretrain.py has a flag for each value, named after its field.
"""

from typing import NamedTuple

from feeder.augmentations import Augmentation
from model.objective import Weights

# Section 4.1 of the paper, by data set and protocol. Other sets get theirs from `batch_size_for`.
PUBLISHED_BATCH_SIZES = {
    ('ntu60', 'cross_subject'): 512,
    ('ntu60', 'cross_view'): 1024,
    ('ntu120', 'cross_subject'): 1024,
    ('ntu120', 'cross_setup'): 1024,
}
SMALLEST_BATCH, LARGEST_BATCH = 32, 512  # of `batch_size_for`
STEPS_PER_EPOCH = 8  # at least
FEWEST_CLIPS = STEPS_PER_EPOCH * SMALLEST_BATCH  # to learn from


class Recipe(NamedTuple):
    """The defaults are the published settings (paper, section 4.1, and the official
    script_pretrain.sh).
    """

    weights: Weights = Weights()
    augmentation: Augmentation = Augmentation()
    lr: float = 5e-4
    batch_sizes: dict = PUBLISHED_BATCH_SIZES
    epochs: int = 451
    schedule: tuple = (351,)

    def values(self) -> dict:
        """The values by the names of their flags; the batch size is open, it depends on the data."""
        weights = {f'{name}_weight': value for name, value in self.weights._asdict().items()}
        return {
            **weights,
            **self.augmentation._asdict(),
            'lr': self.lr,
            'batch_size': None,
            'epochs': self.epochs,
            'schedule': self.schedule,
        }


# small-data: for sets of a thousand clips or so. Its loss weights are VICReg's (arXiv 2105.04906):
# at batch B the covariance of D dimensions has rank below B, so with the published weights it pays
# to shrink the variances. Its crops also reach clips of under 64 frames, which the published
# minimum leaves whole. BENCHMARKS.md has what each does.
RECIPES = {
    'published': Recipe(),
    'small-data': Recipe(
        weights=Weights(intra=25, inter=25, variance=25),
        augmentation=Augmentation(crop=(0.5, 1.0), crop_frames=16),
        lr=2e-3,
        batch_sizes={},
        epochs=101,
        schedule=(81,),
    ),
}


def batch_size_for(num_clips: int) -> int:
    """The largest power of two from 32 to 512 with at least 8 steps an epoch, if there is one."""
    size = LARGEST_BATCH
    while size > SMALLEST_BATCH and steps_per_epoch(num_clips, size) < STEPS_PER_EPOCH:
        size //= 2
    return size


def steps_per_epoch(num_clips: int, batch_size: int) -> int:
    """Steps, with the last, incomplete batch."""
    return -(-num_clips // batch_size)
