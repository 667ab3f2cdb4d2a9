import pytest
import tensorflow as tf
import tf_keras

from features.front_end.front_end import FrontEnd, PatchStorage
from training.config import Options
from training.distributed.watchdog import LostPeerError
from training.input.batches import Batch
from training.loops.optimizer import adam
from training.loops.step import NotFiniteError, failure_of, replica_step
from training.models.layers import as_image, conv_batch_norm
from training.recipes import fully_connected


def test_a_step_that_fails_names_its_videos_and_changes_no_weight() -> None:
    patches = tf_keras.Input((2, 2))
    normalised = conv_batch_norm(as_image(patches), 2, 1, momentum=0.9, relu=False)
    embedding = tf_keras.layers.Flatten(name="embedding")(normalised)
    logits = tf_keras.layers.Dense(3, name="logits")(embedding)
    model = tf_keras.Model(patches, {"embedding": embedding, "logits": logits})
    optimizer = adam(fully_connected(), model.trainable_variables)
    front_end = FrontEnd(resampler="none", storage=PatchStorage(dtype="float16"))
    step = tf.function(replica_step(model, optimizer, front_end, Options()))
    labels = tf.constant([[0], [2]])
    video_ids = tf.constant(["a,b", "ä/ﬁ🎵"])
    good = tf.ones([2, 2, 2], tf.float16)
    no_draws = tf.zeros([2, 0])
    step(Batch(good, labels, video_ids, no_draws))
    before = model.get_weights()

    bad = tf.where([[[True, False], [True, True]]], good, float("inf"))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        step(Batch(bad, labels, video_ids, no_draws))

    failure = failure_of(caught.value, saved_step=0)
    assert isinstance(failure, NotFiniteError)
    assert "not finite in step 2: loss" in str(failure)
    assert "its videos: a,b, ä/ﬁ🎵; the last checkpoint is of step 0" in str(failure)
    assert optimizer.iterations == 1
    for weights, same in zip(before, model.get_weights(), strict=True):
        assert (weights == same).all()


def test_other_errors() -> None:
    lost = failure_of(tf.errors.UnavailableError(None, None, "connection reset"), saved_step=70)
    assert isinstance(lost, LostPeerError)
    assert lost.exit_code == 4
    assert "the last checkpoint is of step 70" in str(lost)
    bug = tf.errors.InvalidArgumentError(None, None, "shapes differ")
    assert failure_of(bug, saved_step=70) is bug
