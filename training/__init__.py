"""Training of the networks with TensorFlow on extracted features."""

import os

from features.quiet import import_tensorflow

# TensorFlow reads this when it is imported: an object is read in the pieces that a reader asks for,
# such as a run of records of 0.3 MB, and not in blocks of 64 MB.
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "0")
import_tensorflow()
