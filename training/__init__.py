"""Training of the networks with TensorFlow on extracted features."""

import os

from features.quiet import import_tensorflow

# TensorFlow reads this when it is imported: an object is read in the pieces that a reader asks for,
# such as a run of records of 0.3 MB, and not in blocks of 64 MB.
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "0")
# TensorFlow uses oneDNN by itself only on processors with AVX512-VNNI and later. With AVX2 alone a
# step of a narrow ResNet-50 in float32 takes half of the CPU time with it. Jobs that score and
# embed leave it to TensorFlow: what oneDNN computes differs in the last bits with the number of
# threads, and their shards have the same bytes on every runner.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
import_tensorflow()
