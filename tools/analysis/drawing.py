"""What the pictures share: colours, the style of papers, writing a figure, and skeletons."""

import re
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from data_gen.skeleton import PARENTS
from tools.common.cli import InputError
from tools.common.files import replacing
from tools.options import try_outputs

# Okabe and Ito's eight, and a purple and a brown that stay apart from them in every common colour
# blindness.
COLOURS = (
    '#0072B2',
    '#E69F00',
    '#009E73',
    '#D55E00',
    '#56B4E9',
    '#CC79A7',
    '#F0E442',
    '#6600CC',
    '#663300',
    '#000000',
)
BODY_COLOURS = ('#0072B2', '#D55E00')
FLOOR = '#E8E8E8'
COLUMN, PAGE = 3.35, 7.0  # inches: the widths of one column and of both
STYLE = {
    'font.size': 7,
    'axes.titlesize': 8,
    'axes.linewidth': 0.5,
    'legend.frameon': False,
    'text.parse_math': False,
    'legend.title_fontsize': 6,
    'legend.handletextpad': 0.2,
    'savefig.bbox': 'tight',
    'savefig.pad_inches': 0.02,
    'savefig.dpi': 300,
    'pdf.fonttype': 42,  # fonts that journals take
}
styled = matplotlib.rc_context(STYLE)  # for functions that draw

# Joints (x, y, z) @ CAMERA are the picture's (right, up): seen from the sensor, whose left is x,
# but from 20 degrees to its side and 10 above.
SIDE, ABOVE = np.radians((20, 10))
CAMERA = np.array(
    [
        [-np.cos(SIDE), np.sin(SIDE) * np.sin(ABOVE)],
        [0, np.cos(ABOVE)],
        [np.sin(SIDE), np.cos(SIDE) * np.sin(ABOVE)],
    ]
)
FLOOR_MARGIN = 0.15  # metres


def output(path: Path) -> Path:
    """--out without its ending, in a folder that can be written to; InputError if it cannot be
    used.
    """
    if path.suffix not in ('', '.png', '.pdf') or path.is_dir():
        raise InputError(f'--out {path}: name a file, FILE.png; FILE.png and FILE.pdf are written')
    try_outputs(path)
    return path.with_suffix('')


@styled
def save(path: Path, figure: Figure) -> None:
    """Write path.png and path.pdf, the same bytes each time. Prints a note about characters that
    the font lacks.
    """
    with warnings.catch_warnings(record=True) as found:
        with replacing(path.with_suffix('.png')) as file:
            figure.savefig(file, format='png')
        with replacing(path.with_suffix('.pdf')) as file:
            figure.savefig(file, format='pdf', metadata={'CreationDate': None})
    print(f'written: {path}.png and .pdf')
    missing = set()
    for warning in found:
        if glyph := re.match(r'Glyph (\d+)', str(warning.message)):
            missing.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(warning.message, None, warning.filename, warning.lineno)
    if missing:
        print(
            f'note: the font has no {" ".join(sorted(missing)[:10])} and draws boxes; name one that '
            'has it as font.family in a matplotlibrc',
            file=sys.stderr,
        )


def canvas(columns: float, rows: float, side: float):
    """The axes of a new figure of square cells, `side` inches each; the lowest cell on the left is
    at (0, 0).
    """
    figure = Figure((columns * side, rows * side))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(0, rows))
    ax.set_axis_off()
    return ax


def bones(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (K, M, 25, 3) of one clip as lines in a square of side 1: bones (K, M, 25, 2, 2) and
    the floor (4, 2).

    All poses are to the same scale. A body that is missing, all zeros, is NaN.
    """
    seen = poses.any((2, 3))
    joints = poses[seen] if seen.any() else np.zeros((1, 1, 3))
    floor = floor_below(joints) @ CAMERA
    drawn = np.concatenate((floor, (joints @ CAMERA).reshape(-1, 2)))
    low, high = drawn.min(0), drawn.max(0)
    middle, scale = (low + high) / 2, 0.96 / (high - low).max()
    flat = np.where(seen[..., None, None], poses, np.nan) @ CAMERA
    flat = 0.5 + scale * (flat - middle)
    floor = 0.5 + scale * (floor - middle)
    return np.stack((flat, flat[:, :, list(PARENTS)]), 3), floor


def floor_below(joints: np.ndarray) -> np.ndarray:
    """The corners (4, 3) of a floor at the height of the lowest of the joints (…, 3)."""
    x, y, z = joints.reshape(-1, 3).T
    left, right = x.min() - FLOOR_MARGIN, x.max() + FLOOR_MARGIN
    near, far = z.min() - FLOOR_MARGIN, z.max() + FLOOR_MARGIN
    corners = [(left, near), (right, near), (right, far), (left, far)]
    return np.array([(x, y.min(), z) for x, z in corners])


def draw_poses(ax, poses: np.ndarray, at: np.ndarray, width: float = 1.0) -> list[LineCollection]:
    """Draw poses (K, M, 25, 3) of one clip in squares whose lower left corners are `at` (K, 2),
    with lines of a width.

    Returns the lines of each body.
    """
    lines, floor = bones(poses)
    floors = PolyCollection(floor + at[:, None], facecolors=FLOOR, zorder=0)
    ax.add_collection(floors, autolim=False)
    lines = lines + at[:, None, None, None]
    bodies = []
    for body, colour in zip(lines.swapaxes(0, 1), BODY_COLOURS, strict=False):
        collection = LineCollection(body.reshape(-1, 2, 2), colors=colour, linewidths=width)
        bodies.append(ax.add_collection(collection, autolim=False))
    return bodies


@styled
def sheet(rows: list[tuple[str, np.ndarray]], count: int) -> Figure:
    """A row for each (title, poses (T, M, 25, 3)): `count` of the frames, from the first to the
    last.
    """
    ax = canvas(count, 1.2 * len(rows), PAGE / count)
    for row, (title, poses) in enumerate(reversed(rows)):
        poses = evenly(poses, count)
        height = 1.2 * row
        draw_poses(ax, poses, np.array([(column, height) for column in range(len(poses))]))
        ax.text(0.03, height + 1.04, title)
    return ax.figure


def evenly(poses: np.ndarray, count: int) -> np.ndarray:
    """`count` of the poses (T, …), or all if there are fewer, from the first to the last."""
    chosen = np.linspace(0, len(poses) - 1, min(count, len(poses)))
    return poses[chosen.round().astype(int)]
