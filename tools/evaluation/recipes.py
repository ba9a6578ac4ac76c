"""How heads and encoders are trained downstream: one row for each recipe, and what its flags
override.
"""

from typing import NamedTuple

import torch

from feeder.augmentations import Augmentation, sample_crops
from feeder.feeders import generator_at
from tools.schedule import lr_factors

Crops = tuple[torch.Tensor, torch.Tensor]  # start and length, (N,) each


class Recipe(NamedTuple):
    """SGD and crops. schedule: the epochs at which the learning rate falls to a tenth, unless `cos`.

    train_crop: the range of the random crop, as shares of a clip; test_crop: of the centre crop.
    """

    lr: list
    batch_size: int
    epochs: int
    schedule: list
    momentum: float = 0.9
    weight_decay: float = 0.0
    train_crop: list = [1.0, 1.0]
    test_crop: float = 1.0
    cos: bool = False

    def factors(self) -> list[float]:
        """What the learning rates are multiplied by in each epoch."""
        return lr_factors(self.epochs, self.schedule, self.cos)

    @property
    def random_crops(self) -> bool:
        return self.train_crop != [1, 1]


# probe: the official code's. cmd: what the field compares fine-tuning with; README.md has the
# source of each value.
RECIPES = {
    'probe': Recipe([0.03], 512, 150, [120, 140]),
    'cmd': Recipe([0.01], 64, 80, [50, 70], train_crop=[0.5, 1.0], test_crop=0.95),
    'plain': Recipe([0.01], 64, 80, [50, 70]),
}


def training_crops(
    num_frames: torch.Tensor, train_crop: list, seed: int, epoch: int, repeat: int = 0
) -> Crops:
    """The random crops of clips of num_frames (N,) frames in an epoch, on their device; 1, 1 gives
    whole clips.
    """
    generator = generator_at(seed, repeat, epoch, 'crop')
    start, length = sample_crops(num_frames.cpu(), generator, Augmentation(crop=train_crop))
    return start.to(num_frames.device), length.to(num_frames.device)
