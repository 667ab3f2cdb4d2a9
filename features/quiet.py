"""TensorFlow without the dozen lines that its C++ prints at every start, which would hide ours."""

import os
import sys
import tempfile

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def import_tensorflow() -> None:
    """Import TensorFlow quietly; call it before the first `import tensorflow` of a process.

    The lines come before TensorFlow's own log level holds, so they are caught at the file
    descriptor, and shown where the import fails. Set TF_CPP_MIN_LOG_LEVEL=0 to see them all.
    """
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
