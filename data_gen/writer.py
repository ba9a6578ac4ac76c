"""Writes one split, recording by recording, so that a run can be stopped at any moment and resumed."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np

from data_gen import __version__
from data_gen.arrays import ROW_BYTES, file_of, write_header
from data_gen.manifest import split_summary
from tools.common.files import replacing


class SplitWriter:
    """Writes the recordings `names`, in this order; unusable ones are left out.

    Until the split is finished, its array's name ends in .part, and a journal beside it has a JSON
    line per recording: {'num_frames', 'digest'} or {'reason'}. The journal's first line identifies
    the plan: names, labels, `details` (more of the manifest) and version. Only a run of the same
    plan is resumed; --overwrite resumes only what it started.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        names: list,
        labels: list,
        layout: str,
        details: dict,
        overwrite: bool = False,
    ):
        self.folder = folder
        self.split = split
        self.names = names
        self.labels = labels
        self.layout = layout
        other_layout = 'trimmed' if layout == 'padded' else 'padded'
        self.target = file_of(folder, split, layout)
        self.other = file_of(folder, split, other_layout)
        self.partial = self.target.with_suffix('.npy.part')
        self.other_partial = self.other.with_suffix('.npy.part')
        self.journal_path = folder / f'{split}_journal.jsonl'
        plan = json.dumps([names, labels, details, __version__])
        self.plan = hashlib.sha256(plan.encode()).hexdigest()
        self.first_line = as_line([self.plan, layout, overwrite])
        self.records = []  # one for each of the names that is dealt with
        self.file = self.journal = None

    def open(self) -> None:
        """Resume what an earlier run of the same plan left, or start."""
        self.other_partial.unlink(missing_ok=True)
        lines = (
            self.journal_path.read_bytes().splitlines(True) if self.journal_path.is_file() else []
        )
        if lines[:1] == [self.first_line]:
            self.records = [json.loads(line) for line in lines[1:] if line.endswith(b'\n')]
        if (
            0 < len(self.names) == len(self.records)
            and self.target.is_file()
            and not self.partial.exists()
        ):
            # the earlier run was stopped just before it wrote the manifest
            os.replace(self.target, self.partial)
        self.file = open(self.partial, 'r+b' if self.partial.exists() else 'w+b')  # noqa: SIM115, it stays open
        header = write_header(self.file, self.layout, self.num_rows)
        end = header + self.num_rows * ROW_BYTES[self.layout]
        if os.fstat(self.file.fileno()).st_size < end:  # data that the journal lists are lost
            self.records, end = [], header
        self.file.truncate(end)
        self.file.seek(end)
        with replacing(self.journal_path) as file:  # without a line that a kill cut short
            file.writelines([self.first_line, *map(as_line, self.records)])
        self.journal = open(self.journal_path, 'ab')  # noqa: SIM115, it stays open

    @property
    def num_frames(self) -> list[int]:
        """The valid frames of each recording written so far."""
        return [record['num_frames'] for record in self.records if 'reason' not in record]

    @property
    def num_rows(self) -> int:
        return len(self.num_frames) if self.layout == 'padded' else sum(self.num_frames)

    @property
    def skipped(self) -> dict[str, str]:
        """{name: reason} of the unusable recordings."""
        return {
            name: record['reason']
            for name, record in zip(self.names, self.records, strict=True)
            if 'reason' in record
        }

    def append(self, record: dict, data: bytes | None) -> None:
        """Write the next recording: its data first, so that the journal lists nothing that is not
        in the file.
        """
        if data is not None:
            self.file.write(data)
            self.file.flush()
        self.records.append(record)
        self.journal.write(as_line(record))
        self.journal.flush()

    def finish(self) -> dict:
        """Give the files their final names; returns the split's entry of the manifest."""
        kept = [
            (name, label, record['digest'])
            for name, label, record in zip(self.names, self.labels, self.records, strict=True)
            if 'reason' not in record
        ]
        names, labels, digests = zip(*kept, strict=True) if kept else ((), (), ())
        with replacing(file_of(self.folder, self.split, 'counts')) as file:
            np.save(file, np.array(self.num_frames, np.int64))
        with replacing(file_of(self.folder, self.split, 'labels')) as file:
            pickle.dump((list(names), list(labels)), file)
        write_header(self.file, self.layout, self.num_rows)
        self.file.close()
        os.replace(self.partial, self.target)
        self.other.unlink(missing_ok=True)
        return split_summary(names, labels, self.num_frames, digests) | {'plan': self.plan}

    def clean_up(self) -> None:
        """Remove the journal and any unfinished array: the split is finished, or nothing was
        usable.
        """
        for file in filter(None, (self.file, self.journal)):
            file.close()
        for path in (self.partial, self.other_partial, self.journal_path):
            path.unlink(missing_ok=True)


def as_line(entry) -> bytes:
    return json.dumps(entry).encode() + b'\n'
