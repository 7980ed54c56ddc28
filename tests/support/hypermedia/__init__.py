"""The libraries of pages that get HTML: htmx, Turbo and Datastar, as their packages have them."""

from __future__ import annotations

from pathlib import Path

from tests.support.npm import install

FOLDER = Path(__file__).parent


def packages() -> Path:
    """Return the folder with the packages of npm."""
    install(FOLDER)
    return FOLDER / "node_modules"
