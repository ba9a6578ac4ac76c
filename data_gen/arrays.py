"""The published layout on disk: {train,val}_{data_joint.npy,num_frame.npy,label.pkl}, one folder per benchmark."""
import os
import pickle
from pathlib import Path

import numpy as np

from data_gen.preprocess import MAX_FRAME
from data_gen.skeleton import BODIES, JOINTS

ROW = (3, MAX_FRAME, JOINTS, BODIES)
ROW_BYTES = 4 * int(np.prod(ROW))


def part_files(folder, part):
    """The three files of one part: coordinates, frame counts, (names, labels)."""
    return tuple(Path(folder) / f'{part}_{kind}' for kind in ('data_joint.npy', 'num_frame.npy', 'label.pkl'))


class PartWriter:
    """One part of one benchmark while it is written: rows arrive in any order, from any process.

    The rows lie in a file of full size under a temporary name. They are written by plain file writes, not through a
    memory map, so that a process never holds more than one of them.
    """

    def __init__(self, folder, part, names):
        self.names = names
        self.files = part_files(folder, part)
        self.partial = self.files[0].with_suffix('.npy.part')

    def allocate(self):
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        with open(self.partial, 'wb') as file:
            self.header_bytes = write_header(file, len(self.names))
            file.truncate(self.header_bytes + len(self.names) * ROW_BYTES)

    def slot(self, index):
        """Where row `index` goes, as `write_row` takes it."""
        return str(self.partial), self.header_bytes + index * ROW_BYTES

    def discard(self):
        self.partial.unlink()

    def finish(self, frames):
        """Close the gaps that unusable recordings left, then give the files their names.

        `frames`: number of frames by name, for each recording that could be used.
        """
        kept = [index for index, name in enumerate(self.names) if name in frames]
        with open(self.partial, 'r+b') as file:
            for row, index in enumerate(kept):
                if row != index:
                    file.seek(self.header_bytes + index * ROW_BYTES)
                    clip = file.read(ROW_BYTES)
                    file.seek(self.header_bytes + row * ROW_BYTES)
                    file.write(clip)
            file.truncate(self.header_bytes + len(kept) * ROW_BYTES)
            file.seek(0)
            write_header(file, len(kept))
        names = [self.names[index] for index in kept]
        data, num_frame, label = self.files
        with replacing(num_frame) as file:
            np.save(file, np.array([frames[name] for name in names], np.int64))
        with replacing(label) as file:
            pickle.dump(([f'{name}.skeleton' for name in names], [name.label for name in names]), file)
        os.replace(self.partial, data)
        return len(names)


def write_header(file, rows):
    """Write an .npy header for `rows` rows; its length does not depend on them. Returns the length."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(rows, *ROW)}, }}"
    size = 128 - len(np.lib.format.magic(1, 0)) - 2
    file.write(np.lib.format.magic(1, 0) + size.to_bytes(2, 'little') + header.ljust(size - 1).encode() + b'\n')
    return file.tell()


def write_row(slot, clip):
    """Write one normalised recording (3, 300, 25, 2) into its slot."""
    path, offset = slot
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(np.ascontiguousarray(clip, '<f4'))


class replacing:
    """`with replacing(path) as file`: a binary file under a temporary name that becomes `path` only once whole."""

    def __init__(self, path):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + '.part')

    def __enter__(self):
        self.file = open(self.partial, 'wb')
        return self.file

    def __exit__(self, failed, *_):
        self.file.close()
        if failed:
            self.partial.unlink()
        else:
            os.replace(self.partial, self.path)
