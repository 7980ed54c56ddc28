"""A short run of `tests.support.fuzz`: the seeds, what was kept, and some changes to them."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fuzz.mutation import mutated, seeds
from tests.support.fuzz.targets import TARGETS

EVERY_TARGET = pytest.mark.parametrize("target", TARGETS)


@EVERY_TARGET
def test_seeds(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)


@EVERY_TARGET
@given(source=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_mutations(target: str, source: random.Random) -> None:
    known = seeds(target)
    TARGETS[target](mutated(source.choice(known), known, source))


@EVERY_TARGET
@given(data=st.binary(max_size=400))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_anything(target: str, data: bytes) -> None:
    TARGETS[target](data)
