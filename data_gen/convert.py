"""Change the layout of prepared arrays, without loss: padded is what others read, trimmed a quarter of the disk.

    python data_gen/convert.py data/NTU-RGB-D-60-AGCN/xsub --layout trimmed

Both parts of each folder given are converted in place; the old files go once the new ones are whole.
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # to run as a script

from data_gen import arrays, cli, manifest  # noqa: E402
from data_gen.reader import PartReader  # noqa: E402


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument('folders', type=Path, nargs='+', metavar='FOLDER', help='of a benchmark: train_*, val_*')
    parser.add_argument('--layout', choices=arrays.LAYOUTS, required=True, help='the layout to have')
    args = parser.parse_args(argv)
    for folder in args.folders:
        parts = [part for part in ('train', 'val') if arrays.layout_of(folder, part)]
        if not parts:
            raise cli.InputError(f'{folder}: no prepared arrays there (give the folder of a benchmark, such as …/xsub)')
        for part in parts:
            convert(PartReader(folder, part), args.layout)
        made = manifest.read(folder)
        if made:
            manifest.write(folder, **made | {'layout': args.layout})


def convert(reader, layout):
    """Write one part in a layout, then remove the other files; nothing to do where it has that layout."""
    if reader.layout == layout:
        print(f'{reader.file}: {layout} already')
        return
    if reader.data.dtype != '<f4':
        raise cli.InputError(f'{reader.file}: {reader.data.dtype} coordinates; only float32 arrays can be converted')
    target, stored, periods = arrays.data_file(reader.folder, reader.part, layout), [], []
    with arrays.replacing(target) as file:
        arrays.write_header(file, (0, *arrays.ROW))
        for index in cli.progress(range(len(reader)), f'writing {target.name}', unit='clip'):
            row = reader.row(index)
            if layout == 'trimmed':
                frames, period = arrays.trim(row, reader.num_frame[index])
                stored.append(len(frames))
                periods.append(period)
                row = frames
            file.write(row.tobytes())
        bodies = reader.data.shape[4 if reader.layout == 'padded' else 1]
        if layout == 'trimmed':
            shape = sum(stored), bodies, *arrays.FRAME[1:]
        else:
            shape = len(reader), arrays.ROW[0], reader.max_frame, arrays.ROW[2], bodies
        arrays.write_header(file, shape)
        if layout == 'trimmed':
            arrays.write_trimming(reader.folder, reader.part, stored, periods, reader.max_frame)
    arrays.remove_other_layout(reader.folder, reader.part, layout)
    print(f'{target}: {target.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    cli.run(main)
