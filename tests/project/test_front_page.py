"""The front page of the site: on a phone, in the dark, by keyboard, without motion; its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser, _first_browser, browser
from tests.support.daemon import ROOT
from tests.support.front import Front
from tests.support.site import served_site, site

__all__ = ["_first_browser", "browser", "served_site", "site"]

#: The build of the site takes long.
pytestmark = pytest.mark.timeout(180)

FRONT = (ROOT / "docs" / "index.md").read_text()

#: Rows of the tables in docs/performance.md that the figures of the front page are from, in order.
SOURCES = (
    ("fan-out, 5,000 streams, 10 messages/s: CPU µs a delivery",),
    ("burst, 2 million deliveries a second of CPU", "burst, 500 messages to 2,000 streams"),
    ("idle stream: KiB",),
    ("connect, 10,000 at once: CPU µs",),
)

#: Columns there, by what the front page calls them.
PEERS = {"nchan": 2, "Centrifugo": 3, "loop in C": 6}

NUMBER = re.compile(r"\d[\d.,]*\d|\d")


@pytest.fixture
def front(browser: Browser, served_site: str) -> Iterator[Front]:
    front = Front(browser, served_site)
    yield front
    front.restore()


@pytest.mark.browser
@pytest.mark.parametrize("width", [195, 360, 390, 768, 1280, 1920])
def test_nothing_is_wider_than_the_screen(front: Front, width: int) -> None:
    """Nor on a phone whose owner has doubled the size of letters: 195 is half of 390."""
    front.show(width)
    wide = front.run(
        """
        return [document.documentElement, document.querySelector(".content")]
          .map((each) => each.scrollWidth - each.clientWidth);
        """
    )
    assert wide == [0, 0]
    assert front.run("return innerWidth") == width


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_one_screen_says_what_it_is(front: Front, width: int, height: int) -> None:
    front.show(width, height)
    places = front.run(
        """
        const parts = "h1, h1 + p, .front-words > p, .front-words a, .front-words pre, .removal";
        return [...document.querySelectorAll(parts)].map((each) => {
          const { left, top, right, bottom } = each.getBoundingClientRect();
          return [each.textContent, left, top, right, bottom];
        });
        """
    )
    texts = "\n".join(text for text, *_ in places)
    assert "Pushing a message to a browser should be as easy as receiving a post from" in texts
    assert {"Get started", "How it compares"} <= {text for text, *_ in places}
    assert "sinapse demo" in texts
    assert "A removal takes effect on an open stream" in texts
    for text, left, top, right, bottom in places:
        assert 0 <= left < right <= width, text
        assert 0 <= top < bottom <= height, text


@pytest.mark.browser
def test_tabs_are_for_the_keyboard_too(front: Front) -> None:
    front.show()
    front.run("document.querySelector('.front-pause input').focus()")

    def press(key: str) -> None:
        ActionChains(front.driver).send_keys(key).perform()

    def shown() -> list[str]:
        return list(
            front.run(
                """
                return [...document.querySelectorAll(".tab-content")]
                  .filter((each) => each.checkVisibility())
                  .map((each) => each.previousElementSibling.textContent);
                """
            )
        )

    press(Keys.TAB)
    assert front.run("return document.activeElement.matches('.tab-set > input')")
    assert shown() == ["1. Publish"]
    press(Keys.ARROW_RIGHT)
    assert shown() == ["2. Who may listen"]
    outline = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert front.run(f"return {outline}") == "solid"
    press(Keys.ARROW_RIGHT)
    assert shown() == ["3. Listen"]
    press(Keys.TAB)
    assert front.run("return document.activeElement.closest('.tab-content') !== null")


@pytest.mark.browser
def test_which_tab_is_shown_is_seen_where_the_system_decides_on_colours(front: Front) -> None:
    front.show(forced=True)
    borders = front.run(
        """
        return [...document.querySelectorAll(".tab-set > label")]
          .map((each) => getComputedStyle(each).borderBottomColor);
        """
    )
    ground = front.run("return getComputedStyle(document.body).backgroundColor")
    assert [border == ground for border in borders] == [False, True, True]


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_of_it_is_on_paper(front: Front, theme: str) -> None:
    """But for what only a screen can do."""
    front.show(medium="print")
    front.run("localStorage.theme = arguments[0]", theme)
    front.driver.refresh()
    texts, pale, ground = front.pale()
    assert {"1. Publish", "def", "2. Who may listen", "3. Listen", "EventSource"} <= set(texts)
    assert texts.index("2. Who may listen") > texts.index("request")
    assert "Pause" not in texts
    assert pale == []
    assert ground == [255, 255, 255]
    assert "nothing of room:7" in front.seen("ben")


@pytest.mark.browser
def test_the_picture_tells_what_is_delivered_in_its_order(front: Front) -> None:
    front.show()
    both = ["room:7", "news"]
    for seconds, listed, ada, ben in (
        (0.5, both, [], []),
        (2.6, both, ["Hello"], ["Hello"]),
        (3.6, both, ["Hello"], ["Hello"]),
        (5.0, ["not room:7", "news"], ["Hello"], ["Hello"]),
        (8.0, ["not room:7", "news"], ["Hello", "Just us"], ["Hello"]),
        (11.3, ["not room:7", "news"], ["Hello", "Just us", "Lunch!"], ["Hello", "Lunch!"]),
    ):
        front.at(seconds)
        assert front.seen("lists") == [*both, *listed], seconds
        messages = [set(front.seen(who)) - {"room:7", "news"} for who in ("ada", "ben")]
        assert messages[0] == set(ada), seconds
        assert messages[1] - {"nothing of room:7"} == set(ben), seconds
        assert ("nothing of room:7" in messages[1]) == ("Just us" in ada), seconds


@pytest.mark.browser
def test_it_stands_still_for_whom_motion_is_too_much(front: Front) -> None:
    running = (
        "return document.getAnimations().filter((each) => each.playState === 'running').length"
    )
    front.show(motion=True)
    assert front.run(running) > 10
    front.driver.find_element("css selector", ".front-pause").click()
    assert front.run(running) == 0
    front.show(motion=False)
    assert front.run("return document.getAnimations().length") == 0
    assert front.seen("lists") == ["room:7", "news", "not room:7", "news"]
    assert front.seen("ada") == ["Hello", "room:7", "Just us", "room:7", "Lunch!", "news"]
    assert front.seen("ben") == ["Hello", "room:7", "nothing of room:7", "Lunch!", "news"]
    assert not front.run("return document.querySelector('.front-pause').checkVisibility()")


@pytest.mark.browser
@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize("switch", ["light", "dark", "auto"])
def test_all_of_it_can_be_read_in_the_dark_and_in_the_light(
    front: Front, system: str, switch: str
) -> None:
    """Whatever the system has, and the switch of the site."""
    front.show(scheme=system, motion=False)
    front.run("localStorage.theme = arguments[0]", switch)
    front.driver.refresh()
    looked: set[str] = set()
    for number in range(3):
        front.run("document.querySelectorAll('.tab-input')[arguments[0]].checked = true", number)
        texts, pale, ground = front.pale()
        assert pale == []
        looked |= set(texts)
    is_dark = (system if switch == "auto" else switch) == "dark"
    assert (sum(ground) < 128) == is_dark
    assert {"Get started", "def", "EventSource", "nothing of room:7", "10.5 µs"} <= looked


@pytest.mark.browser
def test_the_picture_alone_has_its_own_dark(front: Front) -> None:
    """As a README shows it: there is no theme around it."""
    picture = (ROOT / "docs" / "removal.svg").as_uri()
    fills = []
    for scheme in ("light", "dark"):
        front.show(scheme=scheme)
        front.driver.get(picture)
        fills.append(
            front.run("return getComputedStyle(document.querySelector('.box')).fill.match(/\\d+/g)")
        )
    light, dark = (sum(map(int, fill)) for fill in fills)
    assert light > 600
    assert dark < 150
    front.show()


@pytest.mark.browser
def test_the_picture_has_colours_where_no_style_comes(front: Front) -> None:
    """As in the readers of browsers, and where a proxy lets only pages pass."""
    front.show(motion=False)
    front.run("document.querySelectorAll('link[rel=stylesheet]').forEach((each) => each.remove())")
    texts, pale, _ = front.pale()
    assert {"Get started", "Redis", "nothing of room:7"} <= set(texts)
    assert pale == []


@pytest.mark.browser
def test_it_asks_nobody_else_and_is_light(front: Front) -> None:
    front.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    front.show()
    loaded, origin = front.run(
        """
        const entries = ["navigation", "resource"].flatMap((each) => performance.getEntriesByType(each));
        return [entries.map((each) => [each.name, each.decodedBodySize]), location.origin];
        """  # noqa: E501
    )
    assert [name for name, _ in loaded if not name.startswith(f"{origin}/")] == []
    assert 100_000 < sum(size for _, size in loaded) < 300_000


def test_the_picture_is_small_and_does_nothing_but_move() -> None:
    picture = (ROOT / "docs" / "removal.svg").read_text()
    assert len(picture.encode()) < 20_000
    assert not re.search(r"<script|\bon\w+=|href|url\(|@import|@font-face", picture)
    assert re.findall(r"https?://[^\"]+", picture) == ["http://www.w3.org/2000/svg"]
    assert 'role="img" aria-labelledby="removal-title removal-desc"' in picture
    for part in ("title", "desc"):
        assert f'<{part} id="removal-{part}">' in picture


def _cells(beginning: str) -> list[str]:
    """Return the cells of the first row of the page on speed that begins so."""
    page = (ROOT / "docs" / "performance.md").read_text()
    row = re.search(rf"^\| ({re.escape(beginning)}.*) \|$", page, re.MULTILINE)
    assert row is not None, beginning
    return row[1].split(" | ")


def _numbers(cell: str) -> list[str]:
    return NUMBER.findall(cell)


def test_its_figures_are_those_of_the_page_on_speed_with_their_date() -> None:
    figures, date = FRONT.split("## Measured\n")[1].split("\n:::\n")[:2]
    items = re.findall(r"^- ((?:.+\n)(?:  .+\n)*)", figures + "\n", re.MULTILINE)
    assert len(items) == len(SOURCES)
    for item, rows in zip(items, SOURCES, strict=True):
        found = [_cells(row) for row in rows]
        lead = re.match(r"\*\*([\d.,]+)", item)
        assert lead is not None
        assert _numbers(found[0][1])[:1] == [lead[1]]
        known = {number for cells in found for cell in cells for number in _numbers(cell)}
        assert set(_numbers(item)) <= known, item
        for name, column in PEERS.items():
            for number in re.findall(rf"{name}\s(?:takes\s)?([\d.,]*\d)", item):
                assert number == _numbers(found[0][column])[0], (item, name)
    speed = (ROOT / "docs" / "performance.md").read_text()
    measured = re.search(r"^Measured on (\d{4}-\d\d-\d\d)", speed, re.MULTILINE)
    command = re.search(r"`(make bench [^`]+)`", speed)
    assert measured is not None
    assert command is not None
    assert f"Measured on {measured[1]} with `{command[1]}`" in " ".join(date.split())
    assert "](performance.md)" in date


def test_what_sets_it_apart_quotes_that_page() -> None:
    apart = FRONT.split("## What sets it apart\n")[1].partition("\n## ")[0]
    speed = " ".join((ROOT / "docs" / "performance.md").read_text().split())
    [(share, of)] = re.findall(r"(\d+ % of\s+the\s+samples) are (in the kernel)", apart)
    assert f"{' '.join(share.split())} of `perf record` are {of}" in speed
