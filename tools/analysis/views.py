"""The augmented views of a clip, as pre-training draws them, as a contact sheet with what was drawn."""
import numpy as np
import torch
from matplotlib.figure import Figure

from feeder.dataset import ClipDataset
from feeder.feeders import PretrainFeeder, generator_at
from tools.analysis.drawing import canvas, draw_poses, evenly, styled

POSES = 8


@styled
def sheet(feeder: PretrainFeeder, dataset: ClipDataset, clip: int, seed: int) -> Figure:
    """A row for the clip as it is, and one for each view that the feeder makes of it with the draws of `seed`."""
    num_frames = dataset.num_frames[clip:clip + 1].cpu()
    frames = dataset.frames[dataset.start[clip]:][:int(num_frames)].cpu()
    draws = feeder.draws(num_frames, generator_at(seed, 0))
    views = feeder.views(frames, torch.zeros(1, dtype=torch.long), num_frames, generator_at(seed, 0))
    rows = [(f'{dataset.names[clip]}, {len(frames)} frames', frames.numpy())]
    names = ['+'.join(modalities) for modalities in feeder.first_views] + ['fused']
    for number, (name, view, (start, length, maps)) in enumerate(zip(names, views, draws, strict=True), 1):
        crop = f'frames {int(start)} to {int(start + length) - 1}'
        rows.append((f'view {number} ({name}): {crop}, {describe(maps[0].numpy())}', view[0].numpy()))
    ax = canvas(POSES, 1.2 * len(rows), 0.85)
    for row, (title, poses) in enumerate(reversed(rows)):
        poses, _ = evenly(poses, POSES)
        draw_poses(ax, poses, np.array([(column, 1.2 * row) for column in range(len(poses))]))
        ax.text(0.03, 1.2 * row + 1.04, title)
    return ax.figure


def describe(maps: np.ndarray) -> str:
    """What the matrices (25, 3, 3) do to the joints."""
    changed = (maps != np.eye(3)).any((1, 2))
    if not changed.any():
        return 'joints unchanged'
    if changed.all():
        return f'sheared by up to {np.abs(maps[0] - np.eye(3)).max():.2f}'
    return f'{changed.sum()} joints ' + ('multiplied by a random matrix' if maps[changed].any() else 'set to zero')
