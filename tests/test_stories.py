"""Delivery is exact in long stories, with many subjects, on one Redis or several: see `stories`.

``SINAPSE_STORIES`` is how many are told of each kind, ``SINAPSE_SEED`` the seed of the first one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.stories.teller import Counts, Teller
from tests.stories.world import world

STORIES = int(os.environ.get("SINAPSE_STORIES", "10"))
SEED = int(os.environ.get("SINAPSE_SEED", "1"))
MODES = os.environ.get("SINAPSE_MODES", "nodes loss databases workers two three").split()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.timeout(120 + 60 * STORIES)
def test_everybody_gets_what_the_story_says_and_nothing_else(tmp_path: Path, mode: str) -> None:
    counts = Counts()
    began = time.monotonic()
    try:
        with world(tmp_path, mode) as place:
            for seed in range(SEED, SEED + STORIES):
                Teller(place, seed, counts, tmp_path).tell()
    finally:
        print(f"{mode}: {counts}; {time.monotonic() - began:.0f} s")  # noqa: T201
