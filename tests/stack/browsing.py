"""A real browser on the page: Chromium driven by Playwright, with the page's figures read as a person reads them.

It knows the page's controls by their ids, and no server.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

PATIENCE_MS = 30_000
NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
SIZES = {
    "light": {"color_scheme": "light", "viewport": {"width": 1100, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1100, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
}
# The colour of what was heard, in the light theme.
ACCENT = (0xB9, 0x3A, 0x0B)
NUMBER = re.compile(r"^\d")
COUNT_PIXELS = """(accent) => {
  const canvas = document.getElementById("waveform");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) count += accent.every((value, channel) => data[at + channel] === value);
  return count;
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser; fails the test with the way to install one when there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(f"no browser ({', '.join(NAMES)}) was found; on Debian: apt-get install -y chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One open page. Everything it complains of in its console is kept."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._listen)

    def open(self, url: str) -> None:
        """Loads the page and returns when it is connected."""
        self.page.goto(url)
        self.connected()

    def connected(self) -> None:
        self.state("ready")

    def state(self, name: str) -> None:
        """Returns when the connection has that state."""
        self.page.wait_for_selector(f"#connection[data-state={name}]")

    def says(self, text: str) -> None:
        """Returns when the page's status says so."""
        expect(self.page.locator("#status")).to_contain_text(text, timeout=PATIENCE_MS)

    def figure(self, name: str) -> float:
        """A number among the page's figures, once it is there."""
        figure = self.page.locator(f"#{name}")
        expect(figure).to_have_text(NUMBER, timeout=PATIENCE_MS)
        return float(figure.inner_text().split()[0])

    def coloured(self) -> int:
        """How many pixels of the waveform have the colour of sound that was heard."""
        return self.page.evaluate(COUNT_PIXELS, list(ACCENT))

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)
