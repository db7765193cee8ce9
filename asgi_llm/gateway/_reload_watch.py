"""Whether a file is another one than before."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

__all__ = ["FileStamp", "FileWatch", "file_stamp"]


class FileStamp(NamedTuple):
    """What changes with a file's content, whoever writes it and however.

    The place behind all symbolic links is part of it, since a link may come to lead elsewhere, as
    those do by which Kubernetes shows a ConfigMap.
    """

    place: str
    device: int
    inode: int
    size: int
    modified_ns: int


def file_stamp(path: str | None) -> FileStamp | None:
    """The stamp of ``path``; None: there is no path, or no regular file at it now."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return FileStamp(
        os.path.realpath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    )


class FileWatch:
    """Looks at a file now and then, and says when it has changed and stays as it is.

    Args:
        path: The file; it may be missing. Nothing is watched at a path that was no regular file
            when this was made, such as a pipe.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._read = file_stamp(path)
        self._seen = self._read
        self.is_of_use = self._read is not None
        """Whether there is a file to be watched."""

    def look(self) -> bool:
        """Whether the file is another than the one that was read, and the same as at the last look.

        So one that is still being written is left alone. A change is told of once.
        """
        before, self._seen = self._seen, file_stamp(self._path)
        if not self.is_of_use or self._seen == self._read or self._seen != before:
            return False
        self._read = self._seen
        return True

    def note_reading(self) -> None:
        """The file is about to be read: changes count from now on."""
        self._read = self._seen = file_stamp(self._path)
