"""Look at a recording: FILE.gif moves, FILE.png and FILE.pdf show its frames side by side.

    python -m tools.analysis.skeleton S001C001P001R001A001.skeleton --out waving
    python -m tools.analysis.skeleton 12 --dataset ntu60 --split val --views --out clip12

RECORDING is a raw .skeleton file, or a clip of prepared arrays: its name, or its number from 0. The
second body has another colour. The floor is drawn at the lowest joint. --views adds the augmented
views that pre-training makes of the recording to FILE.png, with what was drawn; --seed draws
others.
"""

import tools.common.start  # noqa: F401

from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.protocols import DATASETS, Data, Name
from data_gen.reader import SplitReader
from data_gen.skeleton import read_recording
from feeder.augmentations import PUBLISHED, Augmentation, Draws, augment, sample
from feeder.feeders import VIEW_FRAMES, generator_at
from feeder.modalities import MODALITIES
from tools import options
from tools.analysis import drawing
from tools.common import cli
from tools.common.files import replacing

FPS = 30  # of the recordings
IMAGES = 150  # in a GIF, at most


def main(argv=None):
    args = parse_args(argv)
    out, raw = drawing.output(args.out), Path(args.recording)
    if raw.is_file():
        title, poses = raw.stem, read_recording(raw)
        if name := Name.parse(raw.stem):
            title += f'  A{name.action:03d}'
    else:
        title, poses = read_clip(options.data_of(args), args.split, args.recording)
    rows = [(f'{title}  {cli.plural(len(poses), "frame")}', poses)]
    if args.views:
        clip = prepare(poses) if raw.is_file() else poses
        frames = torch.from_numpy(clip.copy())
        rows += view_rows(frames, args.seed)
    drawing.save(out, drawing.sheet(rows, args.frames))
    animate(out.with_suffix('.gif'), title, poses)
    print(f'written: {out}.gif, of {rows[0][0]}')


def parse_args(argv):
    parser = cli.Parser(__doc__)
    flag = parser.add_argument
    flag('recording', metavar='RECORDING', help='a .skeleton file, or the name or number of a clip')
    flag(
        '--out',
        type=Path,
        required=True,
        metavar='FILE',
        help='write FILE.gif, FILE.png and FILE.pdf',
    )
    flag(
        '--frames', type=cli.positive_int, default=10, metavar='N', help='side by side (default 10)'
    )
    flag('--split', choices=('train', 'val'), default='train', help='of the arrays (default train)')
    flag('--views', action='store_true', help='also show its augmented views')
    flag('--seed', type=cli.non_negative_int, default=0, help='of the views (default 0)')
    options.add_data_flags(parser, '--dataset')
    args = parser.parse_args(argv)
    args.dataset = args.dataset or 'ntu60'
    args.protocol = args.protocol or DATASETS[args.dataset].protocols[0]
    return args


def prepare(poses: np.ndarray) -> np.ndarray:
    """The poses (T, M, 25, 3) of a raw recording as preparation makes them of it."""
    frames = min(len(poses), MAX_FRAME)
    return normalize(poses.transpose(3, 0, 2, 1), frames).transpose(1, 3, 2, 0)


def read_clip(data: Data, split: str, clip: str) -> tuple[str, np.ndarray]:
    """Title and poses (T, M, 25, 3) of a clip, by its name, with or without .skeleton, or by its
    number from 0.
    """
    reader = SplitReader(data.folder, split)
    if clip.isdecimal() and int(clip) < len(reader):
        number = int(clip)
    else:
        name = clip if clip in reader.names else f'{clip.removesuffix(".skeleton")}.skeleton'
        what = f'clip in {data.folder}, {split} (0 to {len(reader) - 1}), named'
        number = cli.position(name, reader.names, what)
    name = reader.names[number].removesuffix('.skeleton')
    label = data.class_name(reader.labels[number])
    return f'{name}  {label}', reader.frames([number])


def view_rows(
    frames: torch.Tensor, seed: int, augmentation: Augmentation = PUBLISHED
) -> list[tuple[str, np.ndarray]]:
    """Title and poses of each augmented view of a clip's frames (T, M, 25, 3), with the draws of a
    seed.
    """
    num_frames = torch.tensor([len(frames)])
    rows = []
    for name in (*MODALITIES, 'fused'):
        generator_of = partial(generator_at, seed, name)
        draws = sample(num_frames, frames.shape[2], generator_of, augmentation)
        (view,) = augment(frames, torch.tensor([0]), draws, VIEW_FRAMES)
        rows.append((f'{name} view: {describe(draws)}', view.numpy()))
    return rows


def describe(draws: Draws) -> str:
    """What was drawn for a clip."""
    first = int(draws.start)
    last = first + int(draws.length) - 1
    (matrices,) = draws.joint_matrices  # (25, 3, 3)
    changed = (matrices != torch.eye(3)).any(2).any(1)  # (25,)
    if changed.all():
        what = f'sheared by up to {(matrices[0] - torch.eye(3)).abs().max():.2f}'
    elif matrices[changed].any():
        what = f'{int(changed.sum())} joints multiplied by a random matrix'
    else:
        what = f'{int(changed.sum())} joints set to zero'
    return f'frames {first} to {last}, {what}'


@drawing.styled
def animate(path: Path, title: str, poses: np.ndarray) -> None:
    """Write a GIF in real time, at half the frame rate, or less for long recordings."""
    step = max(2, -(-len(poses) // IMAGES))
    ax = drawing.canvas(1, 1.1, 3.2)
    ax.text(0.02, 1.04, title)
    lines, _ = drawing.bones(poses[::step])
    bodies = drawing.draw_poses(ax, poses[::step], np.zeros((len(lines), 2)), 2)
    surface = FigureCanvasAgg(ax.figure)
    images = []
    for bones in lines:
        for body, collection in zip(bones, bodies, strict=True):
            collection.set_segments(body)
        surface.draw()
        images.append(Image.fromarray(np.asarray(surface.buffer_rgba())[..., :3]))
    milliseconds = round(100 * step / FPS) * 10  # GIFs count hundredths of a second
    first, *others = images
    with replacing(path) as file:
        first.save(file, 'GIF', save_all=True, append_images=others, duration=milliseconds, loop=0)


if __name__ == '__main__':
    cli.run(main)
