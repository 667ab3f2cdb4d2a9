"""Events are placed in soundtracks."""

from collections.abc import Iterator

import numpy as np
import pytest

from pipelines.corpus.mixing import Event, Noise, place_in_sequence


def events_of_length(seconds: list[float]) -> Iterator[Event]:
    return (Event("", (), Noise(1.0), seconds=length, decibels=0.0) for length in seconds)


def test_events_are_placed_in_sequence() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        placed = place_in_sequence(
            events_of_length([3.0, 1.0, 5.0, 4.0]),
            seconds=10.0,
            gap_seconds=(0.5, 1.0),
            shortest=0.5,
            rng=rng,
        )
        assert len(placed) == 3  # 3 + 1 + 5 and two gaps leave less than half a second
        assert placed[0].start >= 0
        assert placed[-1].end <= 10.0 + 1e-9
        assert all(event.seconds >= 0.5 for event in placed)

    overlapping = place_in_sequence(
        events_of_length([3.0, 3.0]), seconds=9.0, gap_seconds=(-2.0, -2.0), shortest=1.0, rng=rng
    )
    assert overlapping[1].start == pytest.approx(overlapping[0].start + 1.0)
