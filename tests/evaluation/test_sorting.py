"""NumPy's AVX-512 sort is switched off on the processors where it is slow, and nowhere else."""

import subprocess
import sys

import pytest

from evaluation.sorting import choose_sort, is_zen_4

VARIABLE = "NPY_DISABLE_CPU_FEATURES"


def cpuinfo(vendor: str, family: int, model: int) -> str:
    processor = (
        f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\n"
        f"model\t\t: {model}\nmodel name\t: a processor: of many\n"
    )
    return f"{processor}\n{processor}"


@pytest.mark.parametrize(
    ("vendor", "family", "model", "expected"),
    [
        ("AuthenticAMD", 25, 17, True),  # Genoa
        ("AuthenticAMD", 25, 97, True),  # Raphael
        ("AuthenticAMD", 25, 160, True),  # Bergamo
        ("AuthenticAMD", 25, 1, False),  # Milan, Zen 3
        ("AuthenticAMD", 25, 80, False),  # Cezanne, Zen 3
        ("AuthenticAMD", 26, 17, False),  # Turin, Zen 5
        ("GenuineIntel", 6, 143, False),
    ],
)
def test_processors(vendor: str, family: int, model: int, expected: bool) -> None:
    assert is_zen_4(cpuinfo(vendor, family, model)) == expected


@pytest.mark.parametrize("text", ["", "CPU implementer\t: 0x41\nCPU architecture: 8\n"])
def test_other_architectures(text: str) -> None:
    assert not is_zen_4(text)


@pytest.mark.parametrize("variable", [VARIABLE, "NPY_ENABLE_CPU_FEATURES"])
def test_the_choice_of_the_user_stands(variable: str) -> None:
    zen_4, environment = cpuinfo("AuthenticAMD", 25, 17), {variable: "X86_V3"}
    choose_sort(zen_4, environment)
    assert environment == {variable: "X86_V3"}


def test_numpy_takes_the_names() -> None:
    environment: dict[str, str] = {}
    choose_sort(cpuinfo("AuthenticAMD", 25, 17), environment)
    # A name that it does not know is an ImportWarning.
    command = [sys.executable, "-W", "error", "-c", "import numpy"]
    subprocess.run(command, env=environment, check=True, timeout=120)


@pytest.mark.parametrize("command", ["evaluate", "compare", "localise"])
def test_commands_choose_before_numpy_is_imported(command: str) -> None:
    code = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"  # its import fails
        "try:\n"
        f"    import evaluation.{command}\n"
        "except ImportError:\n"
        "    assert 'evaluation.sorting' in sys.modules\n"
        "else:\n"
        "    raise AssertionError('it does not import NumPy')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
