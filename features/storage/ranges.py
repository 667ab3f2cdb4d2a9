"""Remote files that are read in ranges, behind the interface of a local file."""

import io
import os
from collections.abc import Callable
from typing import IO, Any

# Size of a read request: few requests for an average file, and a seek does not fetch a whole film.
READ_BYTES = 8 << 20


def open_ranges(path: str, num_bytes: int, read_range: Callable[[int, int], bytes]) -> IO[bytes]:
    """Open a remote file for reading, seekable.

    Args:
      path: for messages.
      num_bytes: size of the file.
      read_range: gives the bytes from a first to before a last, always of the same content.
    """
    return io.BufferedReader(_RangedFile(path, num_bytes, read_range), READ_BYTES)


class _RangedFile(io.RawIOBase):
    def __init__(self, path: str, num_bytes: int, read_range: Callable[[int, int], bytes]):
        self._path = path
        self._num_bytes = num_bytes
        self._read_range = read_range
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._num_bytes}
        if origin[whence] + offset < 0:
            raise ValueError(f"{self._path}: seek before the start")
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(self._num_bytes)  # the inherited method makes a request for each 8 KB

    def _read(self, wanted: int) -> bytes:
        wanted = min(wanted, self._num_bytes - self._position)
        if wanted <= 0:
            return b""
        data = self._read_range(self._position, self._position + wanted)
        self._position += len(data)
        return data
