"""Augmentation of patches: crops, shifts, gain, mixup, masks.

Random draws are made in the input pipeline, a vector for each patch, from the seed of the run and
the place of the patch in the stream. The step computes the rest from the draws. So augmentation
does not depend on which devices share a mini-batch.
"""

from typing import NamedTuple

import tensorflow as tf

from features.front_end.params import LogMelParams
from training.config import Options

# Draws of a patch: share in its mixture, place of the crop, shift in time, shift in bands, gain;
# then, for each pair of masks, width and place of the time mask and of the band mask.
_SHARE, _CROP, _TIME, _BANDS, _GAIN, _MASKS = range(6)
_OF_MASKS = 4


class Examples(NamedTuple):
    """Inputs and targets of a mini-batch.

    Attributes:
      patches: log-mel [batch, frames, bands].
      label_ids: [batch, most labels], padded by NO_LABEL.
      label_shares: float32 [batch, most labels]; None for 1.
    """

    patches: tf.Tensor
    label_ids: tf.Tensor
    label_shares: tf.Tensor | None


def draw(options: Options, seed: tf.Tensor) -> tf.Tensor:
    """Draw the random numbers of a patch.

    Args:
      options: of the recipe.
      seed: two integers that no other patch has.

    Returns:
      float32 [numbers] in [0, 1]: the share of the patch in its mixture, then uniform draws.
    """
    uniform = tf.random.stateless_uniform([_MASKS - 1 + _OF_MASKS * options.masks], seed)
    if not options.mixup:
        return tf.concat([[1.0], uniform], axis=0)
    # Beta(a, a) from two gamma draws; in float64, so that they are never both 0.
    alpha = tf.constant(options.mixup, tf.float64)
    first, second = tf.unstack(tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64))
    return tf.concat([[tf.cast(first / (first + second), tf.float32)], uniform], axis=0)


def augment(
    patches: tf.Tensor,
    label_ids: tf.Tensor,
    draws: tf.Tensor,
    options: Options,
    params: LogMelParams,
) -> Examples:
    """Augment a mini-batch as the options of a recipe say.

    Args:
      patches: log-mel [batch, frames, bands].
      label_ids: [batch, most labels], padded by NO_LABEL.
      draws: [batch, numbers], from `draw`.
      options: of the recipe.
      params: the front end.
    """
    label_shares = None
    either_way = 2 * draws - 1
    if options.crop_seconds:
        frames = round(options.crop_seconds / params.hop_seconds)
        patches = cropped(patches, draws[:, _CROP], frames)
    if options.time_shift_seconds:
        frames = round(options.time_shift_seconds / params.hop_seconds)
        patches = shifted(patches, tf.cast(tf.round(either_way[:, _TIME] * frames), tf.int32))
    if options.band_shift:
        by = tf.cast(tf.round(either_way[:, _BANDS] * options.band_shift), tf.int32)
        patches = transposed(patches, by)
    if options.gain_decibels:
        patches = amplified(patches, either_way[:, _GAIN] * options.gain_decibels, params)
    if options.mixup:
        patches, label_ids, label_shares = mixed(patches, label_ids, draws[:, _SHARE])
    blank = tf.reduce_mean(patches, axis=[1, 2], keepdims=True)
    for mask in range(options.masks):
        first = _MASKS + _OF_MASKS * mask
        of_time, of_bands = draws[:, first : first + 2], draws[:, first + 2 : first + 4]
        frames = stretch(
            of_time, round(options.time_mask_seconds / params.hop_seconds), patches.shape[1]
        )
        bands = stretch(of_bands, options.mask_bands, params.num_mel_bands)
        patches = tf.where(frames[:, :, None] | bands[:, None, :], blank, patches)
    return Examples(patches, label_ids, label_shares)


def cropped(patches: tf.Tensor, draws: tf.Tensor, frames: int) -> tf.Tensor:
    """Take a stretch of each patch; all places are equally likely.

    Args:
      patches: [batch, frames of a patch, bands].
      draws: float32 [batch] in [0, 1), for the places.
      frames: of a stretch.

    Returns:
      [batch, frames, bands].
    """
    num_places = patches.shape[1] - frames + 1
    first = tf.cast(tf.floor(draws * num_places), tf.int32)
    return tf.gather(patches, first[:, None] + tf.range(frames), batch_dims=1)


def shifted(patches: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
    """Shift patches later in time; frames that leave at one end return at the other.

    Args:
      patches: [batch, frames, bands].
      frames: integers [batch].
    """
    length = tf.shape(patches)[1]
    source = tf.math.floormod(tf.range(length) - frames[:, None], length)  # [batch, frames]
    return tf.gather(patches, source, batch_dims=1)


def transposed(patches: tf.Tensor, bands: tf.Tensor) -> tf.Tensor:
    """Shift patches up by mel bands; the band at the edge is repeated.

    Args:
      patches: [batch, frames, bands].
      bands: integers [batch].
    """
    number = tf.shape(patches)[2]
    source = tf.clip_by_value(tf.range(number) - bands[:, None], 0, number - 1)  # [batch, bands]
    across = tf.transpose(patches, [0, 2, 1])
    return tf.transpose(tf.gather(across, source, batch_dims=1), [0, 2, 1])


def amplified(patches: tf.Tensor, decibels: tf.Tensor, params: LogMelParams) -> tf.Tensor:
    """The log-mel of each sound played louder by this gain.

    Exact: mel magnitudes are linear in the samples, and log-mel is their logarithm after an offset.
    Silence stays silent.

    Args:
      patches: log-mel [batch, frames, bands].
      decibels: float32 [batch].
      params: the front end, with the offset.
    """
    mel = tf.maximum(tf.exp(patches) - params.log_offset, 0.0)
    factors = 10 ** (decibels[:, None, None] / 20)
    return tf.math.log(factors * mel + params.log_offset)


def mixed(patches: tf.Tensor, label_ids: tf.Tensor, shares: tf.Tensor) -> Examples:
    """Mixup (Zhang et al. 2018): mix each patch, and its targets, with those of its neighbour.

    Neighbours are the first and the second patch, the third and the fourth, and so on: a batch is
    in random order, and pairs do not depend on how the batch is divided among devices. A last patch
    without a neighbour stays as it is. Log-mel is mixed, which was better than mixing waveforms for
    PANNs (Kong et al. 2020).

    Args:
      patches: [batch, frames, bands].
      label_ids: [batch, most labels], padded by NO_LABEL.
      shares: float32 [batch], of each patch in its mixture.

    Returns:
      The label ids of both patches, each with a share: targets are linear in the shares, so the
      loss needs no dense targets. A label of both patches is listed twice.
    """
    index = tf.range(tf.shape(patches)[0])
    neighbour = tf.minimum(tf.bitwise.bitwise_xor(index, 1), index[-1])
    share = shares[:, None, None]
    mixture = share * patches + (1 - share) * tf.gather(patches, neighbour)
    ids = tf.concat([label_ids, tf.gather(label_ids, neighbour)], axis=1)
    of_labels = tf.repeat(tf.stack([shares, 1 - shares], axis=1), tf.shape(label_ids)[1], axis=1)
    return Examples(mixture, ids, of_labels)


def stretch(draws: tf.Tensor, most: int, length: int) -> tf.Tensor:
    """A stretch of frames or bands to mask (SpecAugment: Park et al. 2019).

    The width is uniform from 0 to `most`, the place uniform among those where the stretch fits.

    Args:
      draws: [batch, 2] in [0, 1), for the width and the place.
      most: the greatest width.
      length: frames or bands of a patch.

    Returns:
      bool [batch, length].
    """
    most = min(most, length)
    width = tf.floor(draws[:, :1] * (most + 1))
    start = tf.floor(draws[:, 1:] * (length - width + 1))
    place = tf.range(length, dtype=tf.float32)
    return (start <= place) & (place < start + width)
