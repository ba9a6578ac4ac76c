"""Look at a recording: FILE.gif moves, FILE.png and FILE.pdf show its frames side by side.

    python -m tools.analysis.skeleton S001C001P001R001A001.skeleton --out waving
    python -m tools.analysis.skeleton 12 --dataset ntu60 --split val --views --out clip12

RECORDING is a raw .skeleton file, or a clip of prepared arrays: its name, or its number from 0. The second body has
another colour. The floor is drawn at the lowest joint. --views also writes FILE-views.png and .pdf: the augmented views
that pre-training makes of the recording, with what was drawn; --seed draws others.
"""
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from data_gen import cli, manifest
from data_gen.arrays import replacing
from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.protocols import DATASETS, Name
from data_gen.reader import SplitReader
from data_gen.skeleton import SkeletonError, read_xyz
from feeder.dataset import ClipDataset
from feeder.feeders import PretrainFeeder
from tools import options
from tools.analysis import drawing, views

FPS = 30  # of the recordings
IMAGES = 150  # at most, of a GIF
COLUMNS = 8


class Clip(NamedTuple):
    """poses (T, M, 25, 3), metres: as recorded, or normalised if they come from prepared arrays."""
    name: str
    label: str
    poses: np.ndarray


def main(argv=None):
    args = parse_args(argv)
    raw = Path(args.recording)
    if raw.is_file():
        clip = read_raw(raw)
    else:
        folder = options.data_folder(args.data_root, args.dataset, args.protocol)
        clip = read_clip(SplitReader(folder, args.split), args.recording,
                         (manifest.read(folder) or {}).get('class_names'))
    print(f'{clip.name}: {clip.label}, {cli.plural(len(clip.poses), "frame")}')
    drawing.save(args.out, sheet(clip, args.frames))
    animate(args.out.with_suffix('.gif'), clip)
    written = [f'{args.out}.gif, .png and .pdf']
    if args.views:
        poses = clip.poses
        if raw.is_file():
            poses = normalize(poses.transpose(3, 0, 2, 1), min(len(poses), MAX_FRAME)).transpose(1, 3, 2, 0)
        dataset = ClipDataset(torch.from_numpy(np.ascontiguousarray(poses)), torch.tensor([len(poses)]),
                              torch.tensor([0]), [clip.name])
        feeder = PretrainFeeder(dataset, 1, args.seed)
        drawing.save(Path(f'{args.out}-views'), views.sheet(feeder, dataset, 0, args.seed))
        written.append(f'{args.out}-views.png and .pdf')
    print('; '.join(written))


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument('recording', metavar='RECORDING', help='a .skeleton file, or the name or number of a clip')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='what to write, without an ending')
    parser.add_argument('--frames', type=cli.positive_int, default=16, metavar='N', help='side by side (default 16)')
    parser.add_argument('--split', choices=('train', 'val'), default='train', help='of the arrays (default train)')
    parser.add_argument('--views', action='store_true', help='also draw its augmented views')
    options.add_data_flags(parser, '--dataset')
    parser.add_argument('--seed', type=cli.non_negative_int, default=0, help='of the views (default 0)')
    args = parser.parse_args(argv)
    args.dataset = args.dataset or 'ntu60'
    args.protocol = args.protocol or DATASETS[args.dataset].protocols[0]
    args.out = drawing.output(args.out)
    return args


def read_raw(path: Path) -> Clip:
    try:
        poses = read_xyz(path).transpose(1, 3, 2, 0)
    except SkeletonError as error:
        raise cli.InputError(f'{path}: {error}') from error
    name = Name.parse(path.stem)
    return Clip(path.name, f'A{name.action:03d}' if name else '', poses)


def read_clip(reader: SplitReader, clip: str, class_names: list | None) -> Clip:
    """A clip by its name, with or without .skeleton, or by its number from 0; InputError if it is not there."""
    if clip.isdecimal() and clip not in reader.names:
        if int(clip) >= len(reader):
            raise cli.InputError(f'clip {clip}: {reader.file} has {len(reader)} clips, counted from 0')
        number = int(clip)
    else:
        ending = '' if clip in reader.names else '.skeleton'
        number = cli.position(clip + ending, reader.names, f'clip in {reader.folder}, {reader.split}, named')
    label = reader.labels[number]
    return Clip(reader.names[number], class_names[label] if class_names else f'A{label + 1:03d}',
                reader.frames(number, number + 1))


@drawing.styled
def sheet(clip: Clip, count: int) -> Figure:
    """`count` frames of a clip, evenly spread, eight in a row, with their numbers."""
    poses, numbers = drawing.evenly(clip.poses, count)
    rows = -(-len(poses) // COLUMNS)
    at = np.array([(index % COLUMNS, 1.15 * (rows - 1 - index // COLUMNS)) for index in range(len(poses))])
    ax = drawing.canvas(min(COLUMNS, len(poses)), 1.15 * rows + 0.15, drawing.PAGE / COLUMNS)
    drawing.draw_poses(ax, poses, at)
    for (x, y), number in zip(at, numbers, strict=True):
        ax.text(x + 0.5, y + 1.02, number, ha='center', color='#555555')
    ax.text(0.03, 1.15 * rows + 0.02, f'{clip.name}  {clip.label}', fontsize=8)
    return ax.figure


@drawing.styled
def animate(path: Path, clip: Clip) -> None:
    """Write a GIF at half the frame rate, or less for long recordings, in real time."""
    step = max(2, -(-len(clip.poses) // IMAGES))
    poses = clip.poses[::step]
    ax = drawing.canvas(1, 1.1, 3.2)
    ax.text(0.02, 1.04, f'{clip.name}  {clip.label}', fontsize=8)
    lines, _ = drawing.bones(poses)
    bodies = drawing.draw_poses(ax, poses, np.zeros((len(poses), 2)), 2)
    surface, images = FigureCanvasAgg(ax.figure), []
    for number in range(len(poses)):
        for body, collection in enumerate(bodies):
            collection.set_segments(lines[number, body])
        surface.draw()
        images.append(Image.fromarray(np.asarray(surface.buffer_rgba())[..., :3]))
    milliseconds = round(100 * step / FPS) * 10  # GIFs count hundredths of a second
    with replacing(path) as file:
        images[0].save(file, 'GIF', save_all=True, append_images=images[1:], duration=milliseconds, loop=0)


if __name__ == '__main__':
    cli.run(main)
