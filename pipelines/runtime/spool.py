"""The patches of an unfinished shard, on local disk, so that memory stays flat.

A shard has 150 MB on average, and gigabytes if its videos are long. The file has no name and
disappears with the process, however that ends. Reads and writes give an offset, because processes
that share the file would also share a position.
"""

import os
import tempfile
from types import TracebackType

import numpy as np


def write_patches(file: int, patches: np.ndarray | bytes, offset: int) -> int:
    """Write patches to a file; returns the number of bytes.

    Args:
      file: a file descriptor.
      patches: [patches, patch frames, mel bands] of the stored dtype, or their bytes.
      offset: in bytes.

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
    """Patches of the same size in bytes, which are appended and then read in any order."""

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
        """Size of the patches, and so the offset of the next one."""
        return self._length * self._patch_bytes

    def fileno(self) -> int:
        """The file descriptor, with which another process writes after the last patch."""
        return self._file.fileno()

    def append(self, patches: np.ndarray | bytes) -> None:
        """Append patches, [patches, patch frames, mel bands] or their bytes."""
        self._length += write_patches(self.fileno(), patches, self.num_bytes) // self._patch_bytes

    def extend(self, count: int) -> None:
        """Count patches that another process has written after the last one."""
        self._length += count

    def truncate(self, length: int) -> None:
        """Drop all patches from `length` on."""
        self._length = length
        self._file.truncate(self.num_bytes)

    def map(self, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """The patches as an array that stays on disk, and outlives the spool.

        Args:
          dtype: of a value.
          shape: of a patch.
        """
        if not self._length:
            return np.empty((0, *shape), dtype)
        return np.asarray(np.memmap(self._file, dtype, "r", shape=(self._length, *shape)))

    def read(self, index: int) -> bytes:
        """Read the bytes of a patch."""
        return os.pread(self.fileno(), self._patch_bytes, index * self._patch_bytes)
