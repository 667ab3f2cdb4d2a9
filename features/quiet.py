"""TensorFlow without the dozen lines that its C++ prints at every start, which would hide ours."""

import os
import sys
import tempfile

from features.supported import require_avx2

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# TensorFlow imports a Keras whenever it is imported: Keras 3 if this variable is not set, with
# scikit-learn and matplotlib where they are installed, a quarter of the CPU time of a start; else
# tf-keras, which training needs anyway.
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


def import_tensorflow() -> None:
    """Import TensorFlow quietly; call it before the first `import tensorflow` of a process.

    The lines come before TensorFlow's own log level holds, so they are caught at the file
    descriptor, and shown where the import fails. Set TF_CPP_MIN_LOG_LEVEL=0 to see them all.
    """
    os.environ.setdefault(_LEGACY_KERAS, "1")
    require_avx2()
    if "tensorflow" in sys.modules or _LOG_LEVEL in os.environ:
        return
    os.environ[_LOG_LEVEL] = "3"
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
