"""recordings.json beside the arrays: what the raw files were when they were read, so that later
changes to them are noticed. It is in neither the plan nor the hash: only their times may differ.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from tools.common import cli
from tools.common.files import file_sha256, replacing

NAME = 'recordings.json'


def describe(path: str) -> list:
    """[size in bytes, time of the last change in ns, digest] of a file, or of all in a folder."""
    return [*size_and_time(path), digest(path)]


def size_and_time(path: str) -> list[int]:
    stats = [place.stat() for place in places(path)]
    return [sum(each.st_size for each in stats), max(each.st_mtime_ns for each in stats)]


def digest(path: str) -> str:
    files = [place for place in places(path) if place.is_file()]
    return hashlib.sha256(''.join(map(file_sha256, files)).encode()).hexdigest()


def has_changed(path: str, size: int, time: int, digest_before: str) -> bool:
    """Whether a file is not what `describe` said; it is read only if its size or time differ."""
    return size_and_time(path) != [size, time] and digest(path) != digest_before


def places(path: str) -> list[Path]:
    """A file; a folder and what it holds."""
    return [Path(path), *sorted(Path(path).rglob('*'))]


def write(folder: Path, described: dict[str, list]) -> None:
    """described: {name of a recording: what `describe` says of its file}."""
    with replacing(folder / NAME) as file:
        file.write(json.dumps(described).encode() + b'\n')


def check(folder: Path, path_of: dict[str, str]) -> bool:
    """InputError if the file of a recording has changed since the arrays were prepared; False if
    that is not known. path_of: {name: path}.
    """
    described = {}
    with suppress(FileNotFoundError, ValueError):
        described = json.loads((folder / NAME).read_text())
    changed = {
        path
        for name, path in path_of.items()
        if name in described and has_changed(path, *described[name])
    }
    if changed:
        raise cli.InputError(
            f'{folder}: {cli.plural(len(changed), "recording")} changed since these arrays were '
            f'prepared: {", ".join(cli.shorten(sorted(changed)))}; --overwrite prepares them again'
        )
    return bool(described)
