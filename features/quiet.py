"""TensorFlow as all our commands start it: with oneDNN, and without the dozen lines of its C++."""

import os
import sys
import tempfile

from features.supported import require_avx2

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# TensorFlow imports a Keras whenever it is imported: Keras 3 if this variable is not set, with
# scikit-learn and matplotlib where they are installed, a quarter of the CPU time of a start; else
# tf-keras, which training needs anyway.
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def import_tensorflow() -> None:
    """Import TensorFlow quietly; call it before the first `import tensorflow` of a process.

    TensorFlow uses oneDNN by itself only on processors with AVX512-VNNI and later. With AVX2 alone
    a step of a narrow ResNet-50 in float32 takes half of the CPU time with it. Set
    TF_ENABLE_ONEDNN_OPTS=0 to do without.

    The lines come before TensorFlow's own log level holds, so they are caught at the file
    descriptor, and shown where the import fails. Set TF_CPP_MIN_LOG_LEVEL=0 to see them all.
    """
    os.environ.setdefault(_LEGACY_KERAS, "1")
    os.environ.setdefault(_ONEDNN, "1")
    if "tensorflow" in sys.modules or _LOG_LEVEL in os.environ:
        return
    require_avx2()
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
