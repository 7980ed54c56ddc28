"""Fixtures for pytest, there as soon as Sinapse is installed.

They load what they need when a test asks for them: pytest starts no slower.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sinapse.testing import Messages
    from sinapse.testing.server import Server


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let each test begin without messages, where Django's tests are captured unasked."""
    if (capturing := sys.modules.get("sinapse.publisher.django.capturing")) is not None:
        capturing.forget()


@pytest.fixture
def sinapse_messages(request: pytest.FixtureRequest) -> "Iterator[Messages]":
    """Capture what the test publishes: nothing is sent, and Redis is not needed."""
    from sinapse.testing import capture  # noqa: PLC0415

    if "sinapse_server" in request.fixturenames:
        pytest.fail("sinapse_messages captures what sinapse_server should send: use one of them")
    with capture() as messages:
        yield messages


@pytest.fixture(scope="session")
def sinapse_daemon() -> "Iterator[Server]":
    """Run a daemon with a Redis of its own for the whole session."""
    from sinapse.testing.server import started_server  # noqa: PLC0415

    with started_server() as server:
        yield server


@pytest.fixture
def sinapse_server(sinapse_daemon: "Server") -> "Iterator[Server]":
    """Return a real daemon, empty for each test; the default publisher publishes there."""
    from sinapse import publisher  # noqa: PLC0415
    from sinapse.publisher import aio  # noqa: PLC0415
    from sinapse.publisher.operations import standin  # noqa: PLC0415

    former = publisher.use(sinapse_daemon.publisher)
    former_aio = aio.use(aio.Publisher(sinapse_daemon.redis_url, prefix=""))
    try:
        with standin.nobody():
            yield sinapse_daemon
    finally:
        publisher.use(former)
        aio.use(former_aio)
        sinapse_daemon.clear()
