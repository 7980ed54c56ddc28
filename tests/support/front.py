"""The front page of the site in Chromium: for any screen, theme, and taste for motion."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.browser import Browser

#: What can be seen of the picture in a list or a stream, as it is at the moment.
SEEN = """
const isSeen = (node) => {
  for (let each = node; each.localName !== "svg"; each = each.parentNode) {
    const style = getComputedStyle(each);
    if (style.display === "none" || style.opacity < 0.5) return false;
  }
  return true;
};
return [...document.querySelectorAll(`.removal .${arguments[0]} g text`)].filter(isSeen)
  .map((text) => text.classList.contains("strike") ? `not ${text.textContent}` : text.textContent);
"""

#: Texts with less contrast than WCAG AA asks of small ones, each with what it has.
PALE = """
const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const over = (under, colour) => {
  context.fillStyle = `rgb(${under})`;
  context.fillRect(0, 0, 1, 1);
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const ground = (element) => {
  if (element === null) return [255, 255, 255];
  const rectangle = element.localName === "g" && element.querySelector(":scope > rect");
  const colour = rectangle ? getComputedStyle(rectangle).fill : getComputedStyle(element).backgroundColor;
  return over(ground(element.parentElement), colour);
};
const luminance = (colour) => colour.map((each) => each / 255)
  .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
  .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
const looked = [], pale = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || !element.checkVisibility({ visibilityProperty: true }) || !element.getClientRects().length) continue;
  if (["style", "title", "desc"].includes(element.localName)) continue;
  const style = getComputedStyle(element);
  const under = ground(element);
  const isDrawn = element.closest("svg") !== null;
  const lights = [luminance(under), luminance(over(under, isDrawn ? style.fill : style.color))];
  const contrast = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
  looked.push(text);
  if (contrast < 4.5) pale.push([text, contrast, under.join()]);
}
return [looked, pale, ground(document.querySelector("article"))];
"""  # noqa: E501  # Broken, they would be harder to read.


class Front:
    """The front page, as it is shown to somebody."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self.run = browser.run
        self.driver = browser.driver

    def show(
        self,
        width: int = 1280,
        height: int = 800,
        *,
        scheme: str = "light",
        motion: bool = True,
        forced: bool = False,
        medium: str = "screen",
    ) -> None:
        """Load it on a screen of that size, for a reader with these preferences.

        With `forced`, the system decides on colours. `medium` may be paper: ``print``.
        """
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._command("Emulation.setDeviceMetricsOverride", metrics)
        preferences = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "no-preference" if motion else "reduce"},
            {"name": "forced-colors", "value": "active" if forced else "none"},
        ]
        self._command("Emulation.setEmulatedMedia", {"media": medium, "features": preferences})
        self._browser.open(self._url)

    def at(self, seconds: float) -> None:
        """Have the picture be as it is then, and stay so."""
        self.run(
            """
            for (const each of document.getAnimations()) {
              each.pause();
              each.currentTime = arguments[0] * 1000;
            }
            """,
            seconds,
        )

    def seen(self, place: str) -> list[str]:
        """Return the texts that are seen in a place of the picture."""
        return list(self.run(SEEN, place))

    def pale(self) -> tuple[list[str], list[object], list[int]]:
        """Return the texts, those of them that are hard to read, and the colour of the page."""
        texts, pale, ground = self.run(PALE)
        return texts, pale, ground

    def restore(self) -> None:
        """Have the browser be as it was."""
        self.run("localStorage.clear()")
        self._command("Emulation.setEmulatedMedia", {"media": "", "features": []})
        self._command("Emulation.clearDeviceMetricsOverride", {})

    def _command(self, name: str, values: Mapping[str, object]) -> None:
        self.driver.execute_cdp_cmd(name, dict(values))
