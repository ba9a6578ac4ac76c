"""Look at a recording: FILE.gif moves, FILE.png and FILE.pdf show its frames side by side.

    python -m tools.analysis.skeleton S001C001P001R001A001.skeleton --out waving
    python -m tools.analysis.skeleton 12 --dataset ntu60 --split val --views --out clip12

RECORDING is a raw .skeleton file, or a clip of prepared arrays: its name, or its number from 0. The
second body has another colour. The floor is drawn at the lowest joint. --views adds the augmented
views that pre-training makes of the recording to FILE.png, with what was drawn; --seed draws
others.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from data_gen.preprocess import MAX_FRAME, normalize
from data_gen.protocols import DATASETS, Data, Name
from data_gen.reader import SplitReader
from data_gen.skeleton import read_recording
from feeder.dataset import ClipDataset
from feeder.feeders import PretrainFeeder, generator_at
from tools import options
from tools.analysis import drawing
from tools.common import cli
from tools.common.files import replacing

FPS, IMAGES = 30, 150  # frame rate of the recordings; images in a GIF, at most


def main(argv=None):
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
    out, raw, dataset = drawing.output(args.out), Path(args.recording), args.dataset or 'ntu60'
    if raw.is_file():
        poses, parsed = read_recording(raw), Name.parse(raw.stem)
        title = f'{raw.stem}  A{parsed.action:03d}' if parsed else raw.stem
    else:
        protocol = args.protocol or DATASETS[dataset].protocols[0]
        data = Data(args.data_root, dataset, protocol)
        title, poses = read_clip(data, args.split, args.recording)
    rows = [(f'{title}  {cli.plural(len(poses), "frame")}', poses)]
    if args.views:
        clip = poses
        if raw.is_file():
            clip = normalize(poses.transpose(3, 0, 2, 1), min(len(poses), MAX_FRAME)).transpose(
                1, 3, 2, 0
            )
        frames = torch.from_numpy(clip.copy())
        feeder = PretrainFeeder(
            ClipDataset(frames, torch.tensor([len(frames)]), torch.tensor([0]), [title]), 1, 0
        )
        rows += view_rows(feeder, frames, args.seed)
    drawing.save(out, drawing.sheet(rows, args.frames))
    animate(out.with_suffix('.gif'), title, poses)
    print(f'{rows[0][0]}: {out}.gif, .png and .pdf')


def read_clip(data: Data, split: str, clip: str) -> tuple[str, np.ndarray]:
    """Title and poses (T, M, 25, 3) of a clip, by its name, with or without .skeleton, or by its
    number from 0.
    """
    reader = SplitReader(data.folder, split)
    if clip.isdecimal() and int(clip) < len(reader):
        number = int(clip)
    else:
        name = clip if clip in reader.names else f'{clip.removesuffix(".skeleton")}.skeleton'
        number = cli.position(
            name, reader.names, f'clip in {data.folder}, {split} (0 to {len(reader) - 1}), named'
        )
    label = data.class_name(reader.labels[number])
    return f'{reader.names[number].removesuffix(".skeleton")}  {label}', reader.frames([number])


def view_rows(
    feeder: PretrainFeeder, frames: torch.Tensor, seed: int
) -> list[tuple[str, np.ndarray]]:
    """Title and poses of each view that a feeder makes of a clip's frames (T, M, 25, 3), with the
    draws of a seed.
    """
    num_frames = torch.tensor([len(frames)])
    draws = feeder.draws(num_frames, generator_at(seed, 0))
    views = feeder.views(frames, torch.tensor([0]), num_frames, generator_at(seed, 0))
    names = [*map('+'.join, feeder.first_views), 'fused']
    return [
        (
            f'{name} view: frames {int(start)} to {int(start + length) - 1}, {describe(maps[0])}',
            view[0].numpy(),
        )
        for name, view, (start, length, maps) in zip(names, views, draws, strict=True)
    ]


def describe(maps: torch.Tensor) -> str:
    """What the matrices (25, 3, 3) of a view do to the joints."""
    changed = (maps != torch.eye(3)).any(2).any(1)
    if changed.all():
        return f'sheared by up to {(maps[0] - torch.eye(3)).abs().max():.2f}'
    return f'{int(changed.sum())} joints ' + (
        'multiplied by a random matrix' if maps[changed].any() else 'set to zero'
    )


@drawing.styled
def animate(path: Path, title: str, poses: np.ndarray) -> None:
    """Write a GIF in real time, at half the frame rate, or less for long recordings."""
    step = max(2, -(-len(poses) // IMAGES))
    ax = drawing.canvas(1, 1.1, 3.2)
    ax.text(0.02, 1.04, title)
    lines, _ = drawing.bones(poses[::step])
    bodies = drawing.draw_poses(ax, poses[::step], np.zeros((len(lines), 2)), 2)
    surface, images = FigureCanvasAgg(ax.figure), []
    for bones in lines:
        for body, collection in zip(bones, bodies, strict=True):
            collection.set_segments(body)
        surface.draw()
        images.append(Image.fromarray(np.asarray(surface.buffer_rgba())[..., :3]))
    milliseconds = round(100 * step / FPS) * 10  # GIFs count hundredths of a second
    with replacing(path) as file:
        images[0].save(
            file, 'GIF', save_all=True, append_images=images[1:], duration=milliseconds, loop=0
        )


if __name__ == '__main__':
    cli.run(main)
