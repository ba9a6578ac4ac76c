"""Files that are written whole or not at all, their checksums and hashes."""

import hashlib
import os
import zipfile
from contextlib import contextmanager
from pathlib import Path

from tools.common.cli import InputError


@contextmanager
def replacing(path: Path):
    """`with replacing(path) as file`: a binary file under a temporary name, renamed to `path` once
    it is on disk.
    """
    path = Path(path)
    partial = path.with_name(path.name + '.part')
    try:
        with open(partial, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, path)
    if hasattr(os, 'O_DIRECTORY'):  # not on Windows
        folder = os.open(path.parent, os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)


def check_zip(path: Path) -> None:
    """InputError if a record of a zip (an .npz, a checkpoint) does not have its checksum. Other
    files pass.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as records:
            if damaged := records.testzip():
                raise InputError(
                    f'{path} is damaged: the checksum of its record {damaged} is wrong'
                )


def move_aside(*paths: Path) -> Path:
    """Move files of one folder into a new folder earlier_N/ beside them, so nothing is overwritten;
    returns it.
    """
    number = 1
    while (target := paths[0].parent / f'earlier_{number}').exists():
        number += 1
    target.mkdir()
    for path in paths:
        path.rename(target / path.name)
    return target


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
