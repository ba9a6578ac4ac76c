"""manifest.json beside the arrays: what they are, how they were prepared, and a hash that
identifies them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from tools.common.cli import InputError
from tools.common.files import replacing

NAME = 'manifest.json'


def split_summary(names, labels, num_frames, digests: Iterable[str] | None) -> dict:
    """The manifest's entry for one split. `digests`: of each clip's valid frames, see
    `clip_digest`; None: no hash.
    """
    summary = {
        'clips': len(names),
        'classes': {str(label): count for label, count in sorted(Counter(labels).items())},
    }
    if digests is not None:
        summary['hash'] = split_hash(names, labels, num_frames, digests)
    if names:
        low, median, high = np.percentile(num_frames, (5, 50, 95)).tolist()
        summary['frames'] = {
            'total': int(sum(num_frames)),
            'min': int(min(num_frames)),
            '5%': low,
            'median': median,
            '95%': high,
            'max': int(max(num_frames)),
        }
    return summary


def split_hash(names, labels, num_frames, digests: Iterable[str]) -> str:
    """The hash of a split's names, labels, frame counts and coordinates; the same in both layouts."""
    total = hashlib.sha256()
    for row in zip(names, labels, num_frames, digests, strict=True):
        total.update('\0'.join(map(str, row)).encode() + b'\n')
    return total.hexdigest()


def clip_digest(frames: np.ndarray) -> str:
    """The digest of one clip's valid frames (T, M, V, C) float32."""
    return hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()


def clip_digests(frames: np.ndarray, num_frames) -> Iterator[str]:
    """The digest of each clip of frames (F, M, V, C) float32: one clip after another, num_frames
    (N,) of each.
    """
    return map(clip_digest, np.split(frames, np.cumsum(num_frames))[:-1])


def write(folder: Path, **entries) -> None:
    with replacing(Path(folder) / NAME) as file:
        file.write(json.dumps(entries, indent=1).encode() + b'\n')


def read(folder: Path) -> dict | None:
    """The manifest of a folder, or None if it has none. The entries of its splits are under
    'parts'.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        manifest = json.loads(path.read_text())
        if all('hash' in entry and 'clips' in entry for entry in manifest['parts'].values()):
            return manifest
    raise InputError(f'{path} is not a manifest: prepare the data again')


def check(
    folder: Path, split: str, names, labels, num_frames, digests: Iterable[str] | None
) -> bool:
    """Compare a split, as read, with its folder's manifest: InputError if they differ, False if
    there is no manifest.

    A split without arrays has no names. `digests`: see `clip_digests`; with None only the numbers
    of clips and frames are compared.
    """
    manifest = read(folder)
    if manifest is None:
        return False
    expected = manifest['parts'].get(split, {'clips': 0, 'hash': split_hash([], [], [], [])})
    if len(names) != expected['clips']:
        difference = f'{len(names)} clips, not {expected["clips"]}'
    else:
        summary = split_summary(names, labels, num_frames, digests)
        compared = ('classes', 'frames') if digests is None else ('hash',)
        if all(summary[key] == expected.get(key, summary[key]) for key in compared):
            return True
        difference = 'other names, labels or coordinates'
    raise InputError(
        f'{folder}: the {split} split has {difference}, so its {NAME} describes other arrays: '
        f'prepare the data again, or delete {NAME} if you changed the arrays on purpose'
    )
