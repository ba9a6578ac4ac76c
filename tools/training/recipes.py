"""How the encoder is pre-trained: one row for each recipe. pretrain.py has a flag for each value."""

from typing import NamedTuple

from feeder.augmentations import Augmentation
from model.objective import Weights


class Recipe(NamedTuple):
    """The defaults are the published settings (paper, section 4.1, and the official
    script_pretrain.sh).
    """

    intra_weight: float = Weights().intra
    inter_weight: float = Weights().inter
    variance_weight: float = Weights().variance
    covariance_weight: float = Weights().covariance
    crop: tuple = Augmentation().crop
    crop_frames: int = Augmentation().crop_frames
    shear: float = Augmentation().shear
    lr: float = 5e-4
    batch_size: int = 512
    epochs: int = 451
    schedule: tuple = (351,)


# small-data: for sets of a thousand clips or so. Its loss weights are VICReg's (arXiv 2105.04906):
# at batch B the covariance of D dimensions has rank below B, so with the published weights it pays
# to shrink the variances. Its crops also reach clips of under 64 frames, which the published
# minimum leaves whole. BENCHMARKS.md has what each does.
RECIPES = {
    'published': Recipe(),
    'small-data': Recipe(
        intra_weight=25,
        inter_weight=25,
        variance_weight=25,
        crop=(0.5, 1.0),
        crop_frames=16,
        lr=2e-3,
        batch_size=128,
        epochs=101,
        schedule=(81,),
    ),
}
