"""The page in a real browser on the real stack: it speaks, cancels, takes live text, comes back, asks for a key."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from commands.ports import free_ports
from frontend.api_keys import Scope, entry, make_key
from tests.conftest import Figure
from tests.stack.browsing import PATIENCE_MS, SIZES, Visit
from tests.stack.conftest import OpenPage, Render, same_sound
from tests.stack.serving import Serve
from tests.stack.speaking import Pcm

pytestmark = pytest.mark.stack

TEXT = "The first words are on their way while the last ones are still being made."
LONG = " ".join([TEXT] * 8)


@pytest.fixture
def visit(open_page: OpenPage, stack: Serve) -> Visit:
    """The page of the running stack, connected."""
    visit = open_page()
    visit.open(f"http://127.0.0.1:{stack.ports.frontend}/")
    return visit


@contextmanager
def frontend(stack: Serve, port: int, **settings: str) -> Iterator[None]:
    """A second frontend before the same Triton, serving; it is asked to end as an operator does."""
    environment = {
        **os.environ,
        "FRONTEND_PORT": str(port),
        "FRONTEND_TRITON_URL": f"127.0.0.1:{stack.ports.triton_grpc}",
        **settings,
    }
    process = subprocess.Popen([sys.executable, "-P", "-m", "frontend"], env=environment)
    try:
        eventually(lambda: process.poll() is not None or is_ready(port))
        assert process.poll() is None, "the frontend ended before it was ready"
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def eventually(condition: Callable[[], bool], limit: float = 30.0) -> None:
    """Returns when something outside this process holds; fails the test at the limit."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {limit:g} s"
        time.sleep(0.05)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


def downloaded(visit: Visit, folder: Path) -> Pcm:
    """The samples of the page's WAV file."""
    with visit.page.expect_download() as download:
        visit.page.click("#download")
    download.value.save_as(folder / "speech.wav")
    with wave.open(str(folder / "speech.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def test_it_speaks_and_saves_what_was_heard(visit: Visit, render: Render, figure: Figure, tmp_path: Path) -> None:
    visit.page.fill("#text", TEXT)
    visit.page.click("#speak")
    visit.page.wait_for_selector("#transcript mark")
    visit.says("Finished.")
    figure("browser: first audio", f"{visit.figure('first-audio'):.0f} ms")
    samples = downloaded(visit, tmp_path)
    assert same_sound(samples, render([{"text": TEXT}])[0])
    assert visit.figure("length") == pytest.approx(samples.size / 24_000, abs=0.06)
    assert visit.coloured() > 500
    assert visit.page.locator("#transcript").inner_text() == TEXT


def test_a_cancel_is_heard_at_once_and_the_next_text_is_spoken(visit: Visit, figure: Figure) -> None:
    visit.page.fill("#text", LONG)
    visit.page.click("#speak")
    visit.says("Speaking")
    visit.page.wait_for_selector("#transcript mark")
    visit.page.click("#cancel")
    silence_ms = visit.figure("cancel-silence")
    figure("browser: cancel to silence", f"{silence_ms:.0f} ms")
    assert silence_ms < 250
    visit.says("Cancelled.")
    assert visit.page.is_disabled("#cancel")
    visit.page.fill("#text", "Next.")
    visit.page.click("#speak")
    visit.says("Finished.")


def test_a_new_text_replaces_the_one_that_is_spoken(visit: Visit) -> None:
    visit.page.fill("#text", LONG)
    visit.page.click("#speak")
    visit.page.wait_for_selector("#transcript mark")
    visit.page.fill("#text", "Short.")
    visit.page.click("#speak")
    visit.says("Finished.")
    assert visit.page.locator("#transcript").inner_text() == "Short."
    assert visit.figure("length") < 15


def test_words_are_spoken_while_they_are_typed(visit: Visit) -> None:
    visit.page.get_by_role("radio", name="Speak as I type").check()
    visit.page.locator("#text").press_sequentially("The first words, which ", delay=20)
    visit.says("Speaking")
    assert visit.page.input_value("#text") == ""
    assert visit.page.locator("#transcript").inner_text().strip() == "The first words, which"
    first_audio_ms = visit.figure("first-audio")
    assert first_audio_ms > 0
    visit.page.locator("#text").press_sequentially("are heard before the last on", delay=20)
    assert visit.page.input_value("#text") == "on"
    visit.page.locator("#text").press_sequentially("es.", delay=20)
    visit.page.keyboard.press("Control+Enter")
    visit.says("Finished.")
    said = visit.page.locator("#transcript").inner_text().strip()
    assert said == "The first words, which are heard before the last ones."
    assert visit.coloured() > 500
    assert visit.page.is_disabled("#speak")


def test_it_is_used_without_a_mouse(visit: Visit) -> None:
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the text"
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Tab")
    visit.page.locator("#text").focus()
    visit.page.keyboard.press("Control+A")
    visit.page.keyboard.insert_text(LONG)
    visit.page.keyboard.press("Control+Enter")
    visit.page.wait_for_selector("#transcript mark")
    visit.page.keyboard.press("Escape")
    visit.says("Cancelled.")
    assert visit.page.evaluate("document.activeElement.id") == "text"


def test_what_happens_is_told_to_screen_readers(visit: Visit) -> None:
    roles = {name: visit.page.get_attribute(f"#{name}", "role") for name in ("status", "connection", "notice")}
    assert roles == {"status": "status", "connection": "status", "notice": "status"}
    named = {
        "textbox": ("Text to speak", "Style"),
        "combobox": ("Voice", "Language"),
        "spinbutton": ("Seed",),
        "radio": ("Write first", "Speak as I type"),
        "button": ("Speak", "Cancel", "Stop", "Download WAV"),
    }
    for role, names in named.items():
        for name in names:
            assert visit.page.get_by_role(role, name=name, exact=True).count() == 1, f"{role} {name}"
    visit.page.fill("#text", "Hello.")
    visit.page.click("#speak")
    visit.says("Finished.")
    assert visit.page.get_by_role("img", name="of speech").count() == 1


def test_stop_closes_and_speak_opens_again(visit: Visit) -> None:
    visit.page.click("#stop")
    visit.state("closed")
    visit.page.fill("#text", "Again.")
    visit.page.click("#speak")
    visit.says("Finished.")
    visit.connected()


def test_it_comes_back_when_the_server_does(open_page: OpenPage, stack: Serve) -> None:
    [port] = free_ports(1)
    visit = open_page()
    with frontend(stack, port):
        visit.open(f"http://127.0.0.1:{port}/")
        visit.page.fill("#text", LONG)
        visit.page.click("#speak")
        visit.page.wait_for_selector("#transcript mark")
        visit.page.click("#cancel")
    visit.state("waiting")
    expect(visit.page.locator("#connection")).to_contain_text("Reconnecting in", timeout=PATIENCE_MS)
    with frontend(stack, port):
        visit.connected()
        visit.page.fill("#text", "Back again.")
        visit.page.click("#speak")
        visit.says("Finished.")
    # A browser itself tells its console of every connection it could not make.
    visit.complaints = [text for text in visit.complaints if "ERR_CONNECTION_REFUSED" not in text]


def test_a_server_with_keys_asks_for_one(open_page: OpenPage, stack: Serve) -> None:
    [port] = free_ports(1)
    key = make_key()
    visit = open_page()
    with frontend(stack, port, FRONTEND_API_KEYS=entry("alice", Scope.SPEAK, key)):
        visit.page.goto(f"http://127.0.0.1:{port}/")
        visit.state("locked")
        visit.page.fill("#key", "tts_wrong")
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#lock-reason")).to_contain_text("does not take this key", timeout=PATIENCE_MS)
        visit.page.fill("#key", key)
        visit.page.keyboard.press("Enter")
        visit.connected()
        visit.page.fill("#text", "Let in.")
        visit.page.click("#speak")
        visit.says("Finished.")
        assert key not in visit.page.url
    visit.complaints = [text for text in visit.complaints if "401" not in text]


@pytest.mark.parametrize("size", SIZES)
def test_it_looks_right(open_page: OpenPage, stack: Serve, size: str, tmp_path: Path) -> None:
    visit = open_page(**SIZES[size])
    visit.open(f"http://127.0.0.1:{stack.ports.frontend}/")
    visit.page.fill("#text", LONG)
    visit.page.click("#speak")
    visit.page.wait_for_selector("#transcript mark")
    expect(visit.page.locator("#length")).to_have_text(re.compile(r"^([4-9]|\d\d)"), timeout=PATIENCE_MS)
    picture = tmp_path / f"{size}.png"
    visit.page.screenshot(path=picture, full_page=True)
    visit.page.click("#cancel")
    visit.says("Cancelled.")
    assert visit.fits()
    assert picture.stat().st_size > 20_000


def test_the_description_of_the_http_api_fits_a_phone_and_a_desk(open_page: OpenPage, stack: Serve) -> None:
    for size in ("phone", "light"):
        visit = open_page(**SIZES[size])
        visit.page.goto(f"http://127.0.0.1:{stack.ports.frontend}/docs")
        expect(visit.page.get_by_role("heading", name="POST /v1/audio/speech")).to_be_visible()
        assert visit.fits()
