"""Storage of log-mel values and the fingerprint that guards against mixing front ends."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from features.errors import ContractError
from features.front_end.front_end import FrontEnd, PatchStorage
from features.front_end.params import LogMelParams

SILENCE = -4.605170186
LOUDEST = 6.5


class TestUint8:
    storage = PatchStorage()

    def test_error_is_within_half_a_step(self) -> None:
        values = np.linspace(SILENCE, LOUDEST, 200_001, dtype=np.float32)
        stored = self.storage.encode(values.copy())
        error = np.abs(self.storage.decode(stored).astype(np.float64) - values)
        assert stored.dtype == np.uint8
        assert error.max() <= 0.0225
        assert error.max() > 0.0215  # of 256 codes, and not of more
        assert np.sqrt((error**2).mean()) == pytest.approx(0.0126, abs=1e-4)

    def test_codes_are_the_nearest_of_256(self) -> None:
        values = np.random.default_rng(5).uniform(SILENCE, LOUDEST, 2_000).astype(np.float32)
        levels = np.linspace(SILENCE, LOUDEST, 256)
        nearest = np.abs(values[:, None] - levels).argmin(axis=1)
        np.testing.assert_array_equal(self.storage.encode(values), nearest)

    def test_every_code_survives_decoding_and_encoding(self) -> None:
        codes = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
        decoded = self.storage.decode(codes)
        assert decoded.dtype == np.float32
        np.testing.assert_array_equal(self.storage.encode(decoded), codes)

    def test_ends_of_the_range(self) -> None:
        decoded = self.storage.decode(np.array([0, 255], np.uint8))
        assert decoded == pytest.approx([SILENCE, LOUDEST], abs=1e-6)

    def test_values_outside_are_clipped(self) -> None:
        values = np.array([-1e9, -5.0, 6.6, 300.0, 1e9], np.float32)
        np.testing.assert_array_equal(self.storage.encode(values), [0, 0, 255, 255, 255])

    def test_encoding_leaves_its_input_alone(self) -> None:
        values = np.array([-1.0, 0.0, 1.0], np.float32)
        self.storage.encode(values)
        np.testing.assert_array_equal(values, [-1.0, 0.0, 1.0])


def test_float16_is_within_its_bound_and_is_not_clipped() -> None:
    storage = PatchStorage(dtype="float16")
    values = np.append(np.linspace(SILENCE, LOUDEST, 100_001), [7.9, -7.9]).astype(np.float32)
    stored = storage.encode(values)
    decoded = storage.decode(stored)
    assert stored.dtype == np.float16
    assert decoded.dtype == np.float32
    assert np.abs(decoded - values).max() <= 0.003


def leaves(document: dict[str, Any], *path: str) -> Iterator[tuple[str, ...]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from leaves(value, *path, name)
        else:
            yield (*path, name)


FRONT_END = FrontEnd(resampler="soxr 0.1.3 HQ")
FIELDS = list(leaves(FRONT_END.to_json()))


def test_an_invalid_front_end_is_refused_by_field() -> None:
    document = FRONT_END.to_json()
    del document["log_mel"]["hop_seconds"]
    assert FrontEnd.from_json(document) == FRONT_END  # has the default
    document["log_mel"]["hop_seconds"] = "10 ms"
    with pytest.raises(ContractError) as refusal:
        FrontEnd.from_json(document, "/run/export/assets/front_end.json")
    assert str(refusal.value).startswith(
        "/run/export/assets/front_end.json: field log_mel.hop_seconds: expected `float`, got `str`"
    )
    with pytest.raises(ContractError, match="field resampler is missing"):
        FrontEnd.from_json({})


class TestFingerprint:
    def test_every_field_of_every_part_is_looped_over(self) -> None:
        num_fields = (
            1 + len(dataclasses.fields(LogMelParams)) + len(dataclasses.fields(PatchStorage))
        )
        assert len(FIELDS) == num_fields

    @pytest.mark.parametrize("path", FIELDS, ids=".".join)
    def test_changes_with_every_field(self, path: tuple[str, ...]) -> None:
        document = FRONT_END.to_json()
        part = document
        for name in path[:-1]:
            part = part[name]
        value = part[path[-1]]
        if isinstance(value, str):
            part[path[-1]] = "float16"
        else:
            part[path[-1]] = value + 1 if isinstance(value, int) else value * (1 + 1e-9) + 1e-9
        assert FrontEnd.from_json(document).fingerprint != FRONT_END.fingerprint

    def test_is_16_hex_digits_and_the_same_for_equal_front_ends(self) -> None:
        same = FrontEnd(
            resampler="soxr 0.1.3 HQ",
            storage=PatchStorage(maximum=6.5),
            log_mel=LogMelParams(patch_seconds=0.96),
        )
        assert same.fingerprint == FRONT_END.fingerprint
        assert len(FRONT_END.fingerprint) == 16
        assert set(FRONT_END.fingerprint) <= set("0123456789abcdef")

    def test_survives_json(self) -> None:
        front_end = FrontEnd(
            resampler="soxr 0.1.3 HQ",
            log_mel=LogMelParams(log_offset=0.001, patch_hop_seconds=0.48),
            storage=PatchStorage(dtype="float16"),
        )
        read = FrontEnd.from_json(json.loads(json.dumps(front_end.to_json())))
        assert read == front_end
        assert read.fingerprint == front_end.fingerprint
