"""Training of the networks with TensorFlow on extracted features."""

from features.quiet import import_tensorflow

import_tensorflow()
