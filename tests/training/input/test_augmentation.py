"""The effect of each augmentation on every element, and the distribution of its draws."""

import numpy as np
import tensorflow as tf

from features.front_end.logmel import log_mel_patches
from features.front_end.params import LogMelParams
from training.config import Options
from training.input.augmentation import (
    amplified,
    augment,
    cropped,
    draw,
    mixed,
    shifted,
    stretch,
    transposed,
)
from training.loops.loss import NO_LABEL, sigmoid_cross_entropy

RNG = np.random.default_rng(5)
PARAMS = LogMelParams()


def drawn(options: Options, number: int) -> np.ndarray:
    """The draws of patches, [patches, numbers]."""
    seed = tf.constant(3, tf.int64)
    patches = tf.data.Dataset.range(number).map(lambda place: draw(options, [seed, place]))
    return next(patches.batch(number).as_numpy_iterator())


def test_a_mixture_learns_from_the_labels_of_both() -> None:
    """The loss is linear in the targets, so it is the mixture of the losses."""
    patches = RNG.normal(size=(5, 4, 3)).astype(np.float32)
    label_ids = np.array([[0, 2], [1, NO_LABEL], [NO_LABEL] * 2, [2, 3], [1, 3]])
    shares = np.array([0.3, 0.9, 0.5, 1.0, 0.2], np.float32)

    examples = mixed(tf.constant(patches), tf.constant(label_ids), tf.constant(shares))

    neighbours = [1, 0, 3, 2, 4]  # the last one has none
    column = shares[:, None, None]
    expected = column * patches + (1 - column) * patches[neighbours]
    np.testing.assert_allclose(examples.patches, expected, rtol=1e-6)
    dense = np.array([[label in row for label in range(4)] for row in label_ids], np.float32)
    targets = shares[:, None] * dense + (1 - shares[:, None]) * dense[neighbours]
    logits = tf.constant(RNG.normal(0, 5, (5, 4)), tf.float32)
    loss = sigmoid_cross_entropy(logits, examples.label_ids, examples.label_shares)
    wanted = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    np.testing.assert_allclose(loss, tf.reduce_mean(wanted), rtol=1e-6)


def test_parts_of_a_batch_are_augmented_as_the_whole() -> None:
    options = Options(mixup=0.5, time_shift_seconds=0.48, band_shift=3, gain_decibels=6.0, masks=2)
    patches = tf.constant(RNG.normal(size=(8, 96, 64)), tf.float32)
    label_ids = tf.constant(RNG.integers(0, 9, (8, 3)))
    draws = tf.constant(drawn(options, 8))
    whole = augment(patches, label_ids, draws, options, PARAMS)
    parts = [
        augment(patches[part], label_ids[part], draws[part], options, PARAMS)
        for part in (slice(0, 4), slice(4, 8))
    ]
    for undivided, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        # Vectors of another length round otherwise.
        np.testing.assert_allclose(undivided, tf.concat(pieces, axis=0), atol=1e-5)
    assert not np.allclose(whole.patches, patches)


def test_a_crop_is_a_stretch_from_any_place_of_the_patch() -> None:
    frames = np.arange(9, dtype=np.float32)
    patches = np.tile(frames[:, None], (6_000, 1, 2))
    draws = drawn(Options(crop_seconds=0.07), 6_000)[:, 1]

    found = np.asarray(cropped(tf.constant(patches), tf.constant(draws), 7))

    assert found.shape == (6_000, 7, 2)
    first = found[:, 0, 0]
    np.testing.assert_array_equal(found, first[:, None, None] + frames[:7, None] * np.ones(2))
    # Three places, each with a third; the standard deviation of a count is 36.5.
    counts = np.bincount(first.astype(int))
    assert len(counts) == 3
    np.testing.assert_allclose(counts, 2_000, atol=4 * 36.5)
    whole = Options(crop_seconds=0.07, masks=1, time_mask_seconds=1.0)
    shorter = augment(
        tf.zeros([8, 9, 64]), tf.zeros([8, 1], tf.int32), drawn(whole, 8), whole, PARAMS
    )
    assert shorter.patches.shape == (8, 7, 64)  # masks fit into the crop


def test_a_shift_rolls_each_patch_by_its_own_frames() -> None:
    patches = RNG.normal(size=(4, 96, 2)).astype(np.float32)
    frames = [0, 5, -7, 96]
    expected = [np.roll(patch, by, axis=0) for patch, by in zip(patches, frames, strict=True)]
    np.testing.assert_array_equal(shifted(tf.constant(patches), tf.constant(frames)), expected)


def test_the_greatest_shift_is_that_of_the_options() -> None:
    options = Options(time_shift_seconds=0.05)
    patches = tf.tile(tf.range(96, dtype=tf.float32)[None, :, None], [500, 1, 64])
    label_ids = tf.zeros([500, 1], tf.int32)
    examples = augment(patches, label_ids, tf.constant(drawn(options, 500)), options, PARAMS)
    by = (96 - examples.patches[:, 0, 0].numpy().astype(int) + 48) % 96 - 48
    assert set(by) == set(range(-5, 6))
    assert examples.label_shares is None
    assert examples.label_ids is label_ids


def test_a_shift_in_bands_repeats_the_edge() -> None:
    patches = RNG.normal(size=(3, 2, 4)).astype(np.float32)
    found = transposed(tf.constant(patches), tf.constant([0, 1, -2])).numpy()
    np.testing.assert_array_equal(found[0], patches[0])
    np.testing.assert_array_equal(found[1], patches[1][:, [0, 0, 1, 2]])
    np.testing.assert_array_equal(found[2], patches[2][:, [2, 3, 3, 3]])


def test_a_gain_is_what_the_front_end_hears_of_a_louder_sound() -> None:
    samples = RNG.normal(0, 0.01, 2 * 16_000).astype(np.float32)
    decibels = [-12.0, 0.0, 6.0, 15.0]
    quiet = log_mel_patches(samples, PARAMS)[:1]
    louder = [log_mel_patches(samples * 10 ** (by / 20), PARAMS)[0] for by in decibels]
    found = amplified(tf.tile(quiet, [4, 1, 1]), tf.constant(decibels), PARAMS)
    np.testing.assert_allclose(found, louder, atol=2e-3)
    silence = tf.fill([4, 96, 64], PARAMS.min_log_mel)
    np.testing.assert_allclose(
        amplified(silence, tf.constant(decibels), PARAMS), silence, atol=1e-5
    )


def test_masks_blank_stretches_by_the_mean_of_the_patch() -> None:
    options = Options(masks=1, time_mask_seconds=0.2, mask_bands=10)
    patches = RNG.normal(size=(4, 96, 64)).astype(np.float32)
    draws = drawn(options, 4).copy()
    draws[:, 5:] = [
        [0.999, 0.0, 0.0, 0.0],  # 20 frames from the first on
        [0.5, 0.999, 0.0, 0.0],  # 10 frames to the last
        [0.0, 0.0, 0.999, 0.999],  # the last 10 bands
        [0.0, 0.5, 0.0, 0.5],  # nothing
    ]
    examples = augment(tf.constant(patches), tf.zeros([4, 0]), tf.constant(draws), options, PARAMS)
    expected = patches.copy()
    expected[0, :20] = patches[0].mean()
    expected[1, -10:] = patches[1].mean()
    expected[2, :, -10:] = patches[2].mean()
    np.testing.assert_allclose(examples.patches, expected, rtol=1e-5, atol=1e-6)


def test_widths_and_places_of_stretches_are_uniform() -> None:
    masks = stretch(tf.constant(RNG.random((20_000, 2)), tf.float32), 4, 10).numpy()
    widths = masks.sum(axis=1)
    share = np.bincount(widths, minlength=5) / len(widths)
    np.testing.assert_allclose(share, 0.2, atol=0.015)  # 5 deviations
    starts = masks[widths == 3].argmax(axis=1)
    np.testing.assert_allclose(np.bincount(starts) / len(starts), 1 / 8, atol=0.027)
    assert (np.diff(masks.astype(int), axis=1) == 1).sum(axis=1).max() == 1  # in one piece
    assert stretch(tf.constant([[0.999, 0.0]]), 200, 10).numpy().all()  # never beyond the patch


def test_shares_are_drawn_from_the_beta_distribution() -> None:
    for alpha in (0.2, 2.0):
        draws = drawn(Options(mixup=alpha, masks=1), 4_000)
        assert draws.shape == (4_000, 9)
        shares = draws[:, 0]
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(shares.mean() - 0.5) < 4 * np.sqrt(variance / len(shares))
        np.testing.assert_allclose(shares.var(), variance, rtol=0.08)
        np.testing.assert_allclose(draws[:, 1:].mean(axis=0), 0.5, atol=0.02)
    assert np.isfinite(drawn(Options(mixup=1e-3), 500)).all()
    assert (drawn(Options(masks=1), 3)[:, 0] == 1).all()
