"""Make the pictures of pages again: ``python docs/pictures.py``, some four minutes.

They are ``chat.png``, ``answers.png`` and ``monitoring.png``. It needs Chromium with chromedriver,
and the Valkey of ``sinapse-push[embedded]``. It starts the chat and the page with answers with a
daemon, puts a load on the daemon, and photographs the pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import math
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from websockets.asyncio.client import connect

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sinapse.child import Child, free_port  # noqa: E402  # The checkout's own.
from sinapse.publisher import Publisher  # noqa: E402

#: Subjects with event streams, and with WebSockets.
EVENT_STREAMS, WEBSOCKETS = 122, 35

#: Names of channels, and how often a message to each is published in a second, at most.
CHANNELS = {
    "ticker:EURUSD": 6.0,
    "room:1": 5.0,
    "news": 4.0,
    "orders:eu": 2.5,
    "room:3": 2.5,
    "alerts": 2.0,
    "room:2": 2.0,
    "chat:berlin": 1.0,
    "orders:us": 1.0,
    "quiz:42": 1.0,
    "chat:oslo": 0.6,
    "chat:paris": 0.3,
}

#: Seconds that the live page shows, and a few more.
SHOWN = 190

#: Seconds, at most, that a server takes to answer.
START_TIMEOUT = 60

#: Who says what in the chat.
TALK = (
    ("Grace", "Hello, everybody"),
    ("Ada", "Hello, Grace!"),
    ("Grace", "Hello, Ada. Did you get that while I was in the tunnel?"),
    ("Ada", "All of it, once and in order."),
    ("Grace", "Then let us push on."),
)


@contextlib.contextmanager
def running(folder: str, port: int, path: str, *command: str) -> Iterator[None]:
    """Run a server until the end of the block, which begins when it answers a GET of `path`."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONSAFEPATH": "1"}
    environment["SINAPSE_URL"] = f"http://127.0.0.1:{port}/"
    environment["REDIS_URL"] = f"embedded:{folder}/redis"
    address = int(command[command.index("--port") + 1].rpartition(":")[2])
    log = Path(folder) / f"{address}.log"
    with Child("The server", [sys.executable, *command], environment, log) as server:
        server.wait_until_answers(address, path)
        yield


@contextlib.contextmanager
def browser(width: int, height: int) -> Iterator[Chrome]:
    """Run a Chromium with a page of that size, in pixels."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(option)
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        yield driver
    finally:
        driver.quit()


def write(driver: Chrome, selector: str, text: str) -> None:
    """Type into a field that is there or comes, and press Enter."""
    driver.implicitly_wait(START_TIMEOUT)
    driver.find_element("css selector", selector).send_keys(f"{text}\n")


async def read(port: int, token: str, *, is_websocket: bool) -> None:
    """Receive for ever, and look at nothing."""
    path = f"/?access_token={token}"
    if is_websocket:
        async with connect(f"ws://127.0.0.1:{port}{path}") as opened:
            async for _ in opened:
                pass
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    writer.write(head.encode())
    while await reader.read(65536):
        pass


async def load(port: int, publisher: Publisher, seconds: float) -> None:
    """Open streams, and publish in waves for so long."""
    chosen = random.Random(1)  # noqa: S311  # The same load each time.
    tasks = []
    for number in range(EVENT_STREAMS + WEBSOCKETS):
        subject = str(number % (EVENT_STREAMS - 4))
        for channel in ("news", f"user:{subject}", *chosen.sample(sorted(CHANNELS), 4)):
            publisher.channels.add(subject, channel)
        token = publisher.tokens.obtain(subject)
        reading = read(port, token, is_websocket=number >= EVENT_STREAMS)
        tasks.append(asyncio.create_task(reading))
        await asyncio.sleep(0.01)
    for _ in range(78):
        asking = http.client.HTTPConnection("127.0.0.1", port)
        asking.request("GET", "/?access_token=unknown")
        asking.getresponse().read()
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        wave = 0.5 + 0.5 * math.sin(passed / 7)
        for channel, rate in CHANNELS.items():
            if chosen.random() < rate * wave / 10:
                publisher.publish(channel, {"text": "x" * chosen.randrange(100, 500)})
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()


def photograph_chat(folder: str, port: int) -> None:
    """Have two people talk in the chat, and photograph the page of one."""
    chat = free_port()
    with (
        running(folder, port, "/", str(HERE.parent / "example/chat.py"), "--port", str(chat)),
        browser(900, 497) as ada,
        browser(900, 497) as grace,
    ):
        people = {"Ada": ada, "Grace": grace}
        for name, driver in people.items():
            driver.get(f"http://127.0.0.1:{chat}/")
            write(driver, "#name", name)
        for name, text in TALK:
            write(people[name], "#text", text)
            time.sleep(1)
        ada.save_screenshot(str(HERE / "chat.png"))


def photograph_answers(folder: str, port: int) -> None:
    """Ask twice, and photograph the page when the second answer is half there."""
    page = free_port()
    script = str(HERE.parent / "example/answers_fastapi.py")
    with (
        running(folder, port, "/", script, "--port", str(page)),
        browser(900, 740) as driver,
    ):
        driver.get(f"http://localhost:{page}/")
        driver.implicitly_wait(START_TIMEOUT)
        write(driver, "input", "Why is it blue?")
        driver.find_element("css selector", "article[data-state=end]")
        write(driver, "input", "What do I see after a reload?")
        driver.find_element("css selector", "article[data-state=running]")
        time.sleep(4)
        driver.save_screenshot(str(HERE / "answers.png"))


def photograph_live_page(port: int, admin: int, publisher: Publisher) -> None:
    """Put a load on the daemon, and photograph its live page."""
    working = threading.Thread(target=asyncio.run, args=[load(port, publisher, SHOWN + 10)])
    working.start()
    with browser(1280, 1290) as driver:
        driver.get(f"http://127.0.0.1:{admin}/")
        time.sleep(SHOWN)
        write(driver, "#identifier", "1")
        time.sleep(3)
        driver.save_screenshot(str(HERE / "monitoring.png"))
    working.join()


def main() -> None:
    """Make the pictures."""
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ("--port", f"tcp:{port}", "--admin", f"tcp:{admin}:interface=127.0.0.1")
        with running(folder, port, "/status", "-m", "sinapse", "serve", *options):
            publisher = Publisher(f"embedded:{folder}/redis")
            photograph_chat(folder, port)
            photograph_answers(folder, port)
            photograph_live_page(port, admin, publisher)


if __name__ == "__main__":
    main()
