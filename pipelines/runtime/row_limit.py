"""How many rows a network takes at once: fewer where the memory of a GPU has no room for them."""

import logging
from collections.abc import Callable
from typing import TypeVar

from features.errors import JobFailedError

_LOGGER = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class OutOfMemoryError(RuntimeError):
    """A runtime found no memory for the rows of a call."""


class RowLimit:
    """The rows of a call.

    Attributes:
      rows: at present; halved when they do not fit, and never raised again.
    """

    def __init__(self, rows: int):
        self.rows = rows

    def call(self, apply: Callable[[int], _Result]) -> _Result:
        """Call a function with the number of rows, and with half of it as long as they do not fit.

        Args:
          apply: raises OutOfMemoryError if that many rows at once do not fit.

        Raises:
          JobFailedError: not even one row fits.
        """
        while True:
            tried = self.rows
            try:
                return apply(tried)
            except OutOfMemoryError as error:
                if tried == 1:
                    raise JobFailedError(
                        f"the memory of the device has no room for the network: {error}; take a "
                        "GPU with more memory or fewer --workers, or set CUDA_VISIBLE_DEVICES=-1 "
                        "to do without the GPU"
                    ) from error
                # Another thread may have halved it meanwhile.
                self.rows = min(self.rows, tried // 2)
                _LOGGER.warning("no memory for %d rows at once; going on with %d", tried, self.rows)
