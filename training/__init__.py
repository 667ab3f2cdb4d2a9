"""Training of the networks with TensorFlow on extracted features."""
