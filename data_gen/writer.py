"""One part of one benchmark while it is written, row by row, in order, and gone on with after any kind of stop."""
import hashlib
import json
import os

from data_gen import __version__
from data_gen.arrays import (
    FRAME,
    LAYOUTS,
    ROW,
    data_file,
    remove_other_layout,
    trim,
    write_counts_and_labels,
    write_header,
    write_trimming,
)
from data_gen.journal import Journal
from data_gen.manifest import clip_digest, part_summary

ROW_BYTES = 4 * ROW[0] * ROW[1] * ROW[2] * ROW[3]
FRAME_BYTES = 4 * FRAME[0] * FRAME[1] * FRAME[2]


def encode(clip, num_frame, layout):
    """A normalised recording (3, 300, 25, 2) as (what the journal says of it, the bytes that are stored of it)."""
    frames, period = trim(clip, num_frame)
    record = {'frames': num_frame, 'stored': len(frames), 'period': period, 'digest': clip_digest(frames[:num_frame])}
    return record, (clip if layout == 'padded' else frames).tobytes()


class PartWriter:
    """`names`, `labels` and what else is said `about` them are the plan; what cannot be used leaves no row."""

    def __init__(self, folder, part, names, labels, layout, about=None, again=False):
        self.folder, self.part, self.names, self.labels = folder, part, names, labels
        self.layout, self.again = layout, again
        self.target = data_file(folder, part, layout)
        self.partial = self.partial_of(layout)
        self.journal_file = folder / f'{part}_journal.jsonl'
        self.plan = hashlib.sha256(json.dumps([names, labels, about or {}, __version__]).encode()).hexdigest()

    def open(self):
        """Go on from what an earlier run of the same plan left, or begin."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for other in set(LAYOUTS) - {self.layout}:
            self.partial_of(other).unlink(missing_ok=True)
        # --overwrite goes on only with what --overwrite began
        self.journal = Journal(self.journal_file, f'{self.plan} {self.layout}{" again" * self.again}')
        whole = len(self.journal.records) == len(self.names) and self.target.is_file() and not self.partial.exists()
        if whole:  # stopped between giving the data their name and writing the manifest
            os.replace(self.target, self.partial)
        self.file = open(self.partial, 'r+b' if self.partial.exists() else 'w+b')  # noqa: SIM115, it stays open
        header = write_header(self.file, self.shape())
        size = header + self.size()
        if os.fstat(self.file.fileno()).st_size < size:  # the data went missing: nothing of it can be gone on with
            self.journal.restart()
            size = header
        self.file.truncate(size)
        self.file.seek(size)

    def partial_of(self, layout):
        target = data_file(self.folder, self.part, layout)
        return target.with_name(target.name + '.part')

    @property
    def done(self):
        """How many of the names are dealt with."""
        return len(self.journal.records)

    def kept(self):
        return [record for record in self.journal.records if 'reason' not in record]

    def shape(self):
        if self.layout == 'padded':
            return len(self.kept()), *ROW
        return sum(record['stored'] for record in self.kept()), *FRAME

    def size(self):
        return self.shape()[0] * (ROW_BYTES if self.layout == 'padded' else FRAME_BYTES)

    def append(self, record, data):
        """The next name's record and bytes; its data are in the file before the journal says so."""
        if data is not None:
            self.file.write(data)
            self.file.flush()
        self.journal.append(record)

    def finish(self):
        """Give the files their names; returns the part's entry of the manifest."""
        rows = [(name, label, record) for name, label, record
                in zip(self.names, self.labels, self.journal.records, strict=True) if 'reason' not in record]
        names, labels, records = zip(*rows, strict=True) if rows else ((), (), ())
        num_frame = [record['frames'] for record in records]
        write_counts_and_labels(self.folder, self.part, num_frame, names, labels)
        if self.layout == 'trimmed':
            write_trimming(self.folder, self.part, [record['stored'] for record in records],
                           [record['period'] for record in records])
        write_header(self.file, self.shape())
        self.file.close()
        os.replace(self.partial, self.target)
        remove_other_layout(self.folder, self.part, self.layout)
        return part_summary(names, labels, num_frame, [record['digest'] for record in records]) | {'plan': self.plan}

    def clear(self):
        """The manifest is written: the journal has done its work."""
        self.journal.remove()

    def forget(self):
        """Remove what an unfinished run left beside finished arrays."""
        for path in (self.journal_file, *map(self.partial_of, LAYOUTS)):
            path.unlink(missing_ok=True)

    def discard(self):
        """Nothing was usable: leave no trace."""
        self.file.close()
        self.partial.unlink()
        self.journal.remove()
