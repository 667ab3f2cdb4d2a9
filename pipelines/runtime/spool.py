"""The patches of a shard while it is made: on local disk, so that memory stays flat.

A shard is 150 MB on average and gigabytes where its videos are long. The file has no name: it is
gone with its process, however that ends. It is written and read at given places, never at a
position that processes would share.
"""

import os
import tempfile
from types import TracebackType

import numpy as np


def write_patches(file: int, patches: np.ndarray | bytes, offset: int) -> int:
    """Write patches, [patches, patch frames, mel bands] or their bytes; returns how many bytes.

    Args:
      file: a file descriptor.
      patches: of the stored dtype.
      offset: where they go, in bytes.

    Raises:
      OSError: as on a full disk.
    """
    buffer = patches if isinstance(patches, bytes) else np.ascontiguousarray(patches).data
    data = memoryview(buffer).cast("B")
    written = 0
    while written < len(data):
        written += os.pwrite(file, data[written:], offset + written)
    return written


class PatchSpool:
    """Patches of one stored shape and dtype, appended and then read in any order."""

    def __init__(self, patch_bytes: int):
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by __exit__
        self._patch_bytes = patch_bytes
        self._length = 0

    def __enter__(self) -> "PatchSpool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._length

    @property
    def num_bytes(self) -> int:
        """Where the next patch goes in the file."""
        return self._length * self._patch_bytes

    def fileno(self) -> int:
        """The file descriptor, for another process to write behind the last patch."""
        return self._file.fileno()

    def append(self, patches: np.ndarray | bytes) -> None:
        """Append patches, [patches, patch frames, mel bands] or their bytes."""
        self._length += write_patches(self.fileno(), patches, self.num_bytes) // self._patch_bytes

    def extend(self, count: int) -> None:
        """Take in patches that another process has written behind the last."""
        self._length += count

    def truncate(self, length: int) -> None:
        """Drop all patches from `length` on."""
        self._length = length
        self._file.truncate(self.num_bytes)

    def read(self, index: int) -> bytes:
        """The bytes of one patch."""
        return os.pread(self.fileno(), self._patch_bytes, index * self._patch_bytes)
