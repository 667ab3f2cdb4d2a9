"""An average of the weights over the last steps, validated and exported in their place."""

from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
import tf_keras

# Updating the average reads all weights, so it is not done in every step.
_STEPS_BETWEEN = 10


def averaging(
    average: tf_keras.Model, model: tf_keras.Model, decay: float
) -> Callable[[int], None]:
    """A function that updates an average of the weights, to be called after each step.

    The average is exponential and keeps a share of `decay` in a step (Polyak and Juditsky 1992;
    Inception V3). After n steps the share is at most (1 + n) / (10 + n), the rule of TensorFlow: so
    a short run averages over its last tenth and forgets its beginning. The average is updated in
    the first nine steps, and then in every tenth step for ten steps at once.

    The statistics of batch normalization are averaged too, as they belong to the weights.

    Args:
      average: the network that holds the average, on one device.
      model: the network that is trained, by any strategy; its variables may be in pieces.
      decay: below 1.
    """
    share = tf.Variable(0.0, trainable=False)

    @tf.function(autograph=False)
    def move() -> None:
        for old, new in zip(average.weights, whole(model.weights, average.weights), strict=True):
            old.assign_add(share * (new - old))

    def after(step: int) -> None:
        if step % _STEPS_BETWEEN == 0 or step < _STEPS_BETWEEN:
            share.assign(1 - min(decay, (1 + step) / (10 + step)) ** _STEPS_BETWEEN)
            move()

    return after


def whole(pieces: Sequence[tf.Variable], like: Sequence[tf.Variable]) -> Iterator[tf.Tensor]:
    """Join variables that are split by rows over several servers, to the shapes of `like`."""
    rest = iter(pieces)
    for variable in like:
        num_rows = variable.shape[:1].num_elements()
        parts = [next(rest)]
        while sum(part.shape[:1].num_elements() for part in parts) < num_rows:
            parts.append(next(rest))
        yield tf.concat(parts, axis=0) if len(parts) > 1 else parts[0]
