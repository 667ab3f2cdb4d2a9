"""NumPy's fast sort on every processor: commands that rank scores import this before NumPy.

NumPy's AVX-512 sort writes with compress-store, which Zen 4 of AMD runs in microcode: 24 ns for a
float32 instead of the 5 ns of the AVX2 sort (numpy/numpy#32690, numpy/x86-simd-sort#6). NumPy
chooses its code when it is imported, so the choice is in the environment, which child processes
inherit. It holds for `exp` and `log` too, whose last bits can differ, and so is not made in
processes that compute features. Validation in training ranks without it: NumPy is imported before.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

_VARIABLE = "NPY_DISABLE_CPU_FEATURES"
# The names since NumPy 2.4; others have no effect.
_AVX512 = "X86_V4 AVX512_ICL AVX512_SPR"
# Family, and first and last models, as in Linux, arch/x86/kernel/cpu/amd.c.
_FAMILY, _MODELS = "25", ((0x10, 0x1F), (0x60, 0xAF))


def is_zen_4(processors: str) -> bool:
    """Whether the first processor of a text of /proc/cpuinfo is a Zen 4."""
    lines = (line.partition(":") for line in processors.split("\n\n")[0].splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    if (fields.get("vendor_id"), fields.get("cpu family")) != ("AuthenticAMD", _FAMILY):
        return False
    model = int(fields["model"])
    return any(first <= model <= last for first, last in _MODELS)


def choose_sort(processors: str, environment: MutableMapping[str, str]) -> None:
    """Switch AVX-512 of NumPy off on a Zen 4, unless the user has chosen NumPy's features."""
    if is_zen_4(processors) and "NPY_ENABLE_CPU_FEATURES" not in environment:
        environment.setdefault(_VARIABLE, _AVX512)


_PROCESSORS = Path("/proc/cpuinfo")
if _PROCESSORS.exists():
    choose_sort(_PROCESSORS.read_text(), os.environ)
