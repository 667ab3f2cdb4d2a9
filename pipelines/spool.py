"""The patches of a shard while it is made: on local disk, so that memory stays flat.

A shard is 150 MB on average and gigabytes where its videos are long. The file has no name: it is
gone with its process, however that ends.
"""

import os
import tempfile
from types import TracebackType

import numpy as np


class PatchSpool:
    """Patches of one stored shape and dtype, appended and then read in any order."""

    def __init__(self, patch_bytes: int):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
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

    def append(self, patches: np.ndarray | bytes) -> None:
        """Append patches, [patches, patch frames, mel bands] or their bytes."""
        data = patches if isinstance(patches, bytes) else patches.tobytes()
        self._file.write(data)
        self._length += len(data) // self._patch_bytes

    def truncate(self, length: int) -> None:
        """Drop all patches from `length` on."""
        self._file.seek(length * self._patch_bytes)
        self._file.truncate()
        self._length = length

    def read(self, index: int) -> bytes:
        """The bytes of one patch; `flush` comes first."""
        return os.pread(self._file.fileno(), self._patch_bytes, index * self._patch_bytes)

    def flush(self) -> None:
        """Make all that was appended readable."""
        self._file.flush()
