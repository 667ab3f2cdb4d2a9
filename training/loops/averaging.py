"""An average of the weights over the last steps; it is validated and exported instead of them."""

from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
import tf_keras

# Taking up the weights costs as much as reading all of them.
_STEPS_BETWEEN = 10


def averaging(
    average: tf_keras.Model, model: tf_keras.Model, decay: float
) -> Callable[[int], None]:
    """A function to be called after each step, which moves an average towards the weights.

    The average keeps a share of `decay` for a step (Polyak and Juditsky 1992; exponential, as in
    Inception V3). After n steps the share is (1 + n) / (10 + n) at most, TensorFlow's own rule: an
    average over the last tenth of a short run instead of one that remembers its beginning. The
    weights are taken up in every tenth step, for ten steps at once, and in the first nine.

    The statistics of batch normalization are averaged too: they belong to the weights.

    Args:
      average: a network of its own, on one device.
      model: what is trained, by any strategy; its variables may be in pieces.
      decay: below 1.
    """
    share = tf.Variable(0.0, trainable=False)

    @tf.function
    def move() -> None:
        for old, new in zip(average.weights, whole(model.weights, average.weights), strict=True):
            old.assign_add(share * (new - old))

    def after(step: int) -> None:
        if step % _STEPS_BETWEEN == 0 or step < _STEPS_BETWEEN:
            share.assign(1 - min(decay, (1 + step) / (10 + step)) ** _STEPS_BETWEEN)
            move()

    return after


def whole(pieces: Sequence[tf.Variable], like: Sequence[tf.Variable]) -> Iterator[tf.Tensor]:
    """Variables in the shapes of others; some lie in pieces, row after row, on several servers."""
    rest = iter(pieces)
    for one in like:
        parts = [next(rest)]
        while sum(part.shape[:1].num_elements() for part in parts) < one.shape[:1].num_elements():
            parts.append(next(rest))
        yield tf.concat(parts, axis=0) if len(parts) > 1 else parts[0]
