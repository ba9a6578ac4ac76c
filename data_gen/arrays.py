"""What lies in a benchmark's folder: a train and a val split, each in one of two layouts."""

from pathlib import Path

import numpy as np

from data_gen.preprocess import MAX_FRAME
from data_gen.skeleton import BODIES, JOINTS

LAYOUTS = ('padded', 'trimmed')
FILES = {  # their names, after `train_` or `val_`
    # (N, 3, 300, 25, 2) float32: the published layout, which other projects read
    'padded': 'data_joint.npy',
    # (F, 2, 25, 3) float32: the valid frames only, one clip after another
    'trimmed': 'frame_joint.npy',
    'counts': 'num_frame.npy',  # (N,) int64: the valid frames of each clip
    'labels': 'label.pkl',  # a pickle of (names, labels)
}
ROW_SHAPE = {
    'padded': (3, MAX_FRAME, JOINTS, BODIES),
    'trimmed': (BODIES, JOINTS, 3),
}  # a row: a clip, or a frame
ROW_BYTES = {layout: 4 * int(np.prod(shape)) for layout, shape in ROW_SHAPE.items()}


def file_of(folder: Path, split: str, content: str) -> Path:
    """The file that holds a split's coordinates, if `content` is a layout, or its counts or labels."""
    return Path(folder) / f'{split}_{FILES[content]}'


def layout_of(folder: Path, split: str) -> str | None:
    """The layout of a split's arrays, or None if there are none."""
    return next((layout for layout in LAYOUTS if file_of(folder, split, layout).is_file()), None)


def write_header(file, layout: str, rows: int) -> int:
    """Write the .npy header of `rows` rows at the start of an open file; its size is always the
    same. Returns it.
    """
    file.seek(0)
    header = {'descr': '<f4', 'fortran_order': False, 'shape': (rows, *ROW_SHAPE[layout])}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()
