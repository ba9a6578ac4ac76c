"""manifest.json beside the arrays: what they are, how they came about, and a hash by which to know them again."""
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np

from data_gen.arrays import replacing
from data_gen.cli import InputError

NAME = 'manifest.json'


def part_summary(names, labels, num_frame, digests):
    """One part's entry. `digests`: of each clip's valid frames, see `clip_digests`."""
    summary = {'clips': len(names), 'classes': {str(label): count for label, count in sorted(Counter(labels).items())},
               'hash': part_hash(names, labels, num_frame, digests)}
    if names:
        low, median, high = np.percentile(num_frame, (5, 50, 95)).tolist()
        summary['frames'] = {'total': int(sum(num_frame)), 'min': int(min(num_frame)), '5%': low, 'median': median,
                             '95%': high, 'max': int(max(num_frame))}
    return summary


def part_hash(names, labels, num_frame, digests):
    """The hash of names, labels, frame counts and coordinates; the same in both layouts."""
    total = hashlib.sha256()
    for row in zip(names, labels, num_frame, digests, strict=True):
        total.update('\0'.join(map(str, row)).encode() + b'\n')
    return total.hexdigest()


def clip_digest(frames):
    """The digest of one clip's valid frames (T, M, V, C) float32, contiguous."""
    return hashlib.sha256(frames).hexdigest()


def clip_digests(frames, num_frame):
    """The digest of each clip of frames (F, M, V, C) float32, num_frame (N,) of them after another."""
    ends = np.cumsum(num_frame)
    return [clip_digest(frames[end - count:end]) for end, count in zip(ends, num_frame, strict=True)]


def write(folder, **entries):
    with replacing(Path(folder) / NAME) as file:
        file.write(json.dumps(entries, indent=1).encode() + b'\n')


def read(folder):
    """The manifest of a folder, or None where it has none."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
        if all('hash' in part and 'clips' in part for part in manifest['parts'].values()):
            return manifest
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f'{path} is not a manifest: prepare the data again')


def check(folder, part, names, labels, num_frame, frames):
    """InputError where a part contradicts its folder's manifest; False where there is no manifest to hold it against.

    frames (F, M, V, C) float32: the valid frames of all clips, one clip after another.
    """
    manifest = read(folder)
    if manifest is None:
        return False
    expected = manifest['parts'].get(part, {'clips': 0, 'hash': None})
    if len(names) != expected['clips']:
        found = f'{len(names)} clips, not {expected["clips"]}'
    elif part_hash(names, labels, num_frame, clip_digests(frames, num_frame)) != expected['hash']:
        found = 'other names, labels or coordinates'
    else:
        return True
    raise InputError(f'{folder}: the {part} part has {found}, so its {NAME} is of other arrays: prepare the data '
                     f'again, or delete {NAME} if you changed the arrays on purpose')
