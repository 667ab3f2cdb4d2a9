"""Refuse in one line what the packages of requirements.lock do not run on.

Python 3.7 and later have to be able to read this module, and it imports none of ours.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NoReturn

_FIRST, _LAST = (3, 11), (3, 13)
_PROCESSORS = Path("/proc/cpuinfo")
_BAD_INPUT = 2  # as in features.errors


def require_python(version: tuple[int, int]) -> None:
    """Exit unless a version of Python is supported."""
    if not _FIRST <= version <= _LAST:
        _refuse(
            f"this is Python {version[0]}.{version[1]}, and Python 3.11, 3.12 or 3.13 is needed: "
            "`make` installs with the newest that it finds, `make PYTHON=...` with another"
        )


def require_avx2(processors: str | None = None) -> None:
    """Exit if the processor has no AVX2, without which TensorFlow may end as a crash.

    Args:
      processors: text of /proc/cpuinfo; None for that of this machine. Without the flags of an
        x86-64 processor there is nothing to say.
    """
    if processors is None:
        processors = _PROCESSORS.read_text() if _PROCESSORS.exists() else ""
    flags = re.search(r"^flags\s*:(.*)$", processors, re.MULTILINE)
    if flags is not None and "avx2" not in flags[1].split():
        _refuse(
            "this processor has no AVX2, which the packages of requirements.lock may need: run on "
            "an x86-64 machine of 2015 or later, or let the virtual machine pass the host's "
            "processor through"
        )


def _refuse(problem: str) -> NoReturn:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(_BAD_INPUT)
