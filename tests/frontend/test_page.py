"""The page's files and headers: what a browser gets, keeps and is forbidden."""

import re
from pathlib import Path

import pytest
from quart import Quart

from frontend.app import create_app
from frontend.page import CONTENT_POLICY, FOLDER, Page
from frontend.settings import Settings
from tests.frontend.fakes import FakeSpeech

SCRIPTS = sorted(FOLDER.glob("*.js"))


@pytest.fixture
def app() -> Quart:
    return create_app(Settings(), FakeSpeech())


@pytest.fixture
def page() -> Page:
    return Page()


async def test_the_page_is_served_with_its_headers(app: Quart) -> None:
    answer = await app.test_client().get("/")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == CONTENT_POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "<h1>" in await answer.get_data(as_text=True)


async def test_a_browser_that_has_a_file_is_told_so(app: Quart) -> None:
    client = app.test_client()
    first = await client.get("/static/app.js")
    again = await client.get("/static/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status_code, await again.get_data()) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize(
    "path", ["/static/..%2fapp.py", "/static/../app.py", "/static/", "/static/x.js", "/static/a/b"]
)
async def test_nothing_but_the_files_of_the_page_is_served(app: Quart, path: str) -> None:
    assert (await app.test_client().get(f"/static/{path}")).status_code == 404


@pytest.mark.parametrize("given", ['"{tag}"', 'W/"{tag}"', '"other", "{tag}"', "*"])
def test_each_way_of_naming_a_tag_is_understood(page: Page, given: str) -> None:
    tag = page.answer("style.css").headers["ETag"].strip('"')
    assert page.answer("style.css", given.format(tag=tag)).status == 304


def test_another_tag_gets_the_file(page: Page) -> None:
    answer = page.answer("style.css", '"other"')
    assert answer.status == 200
    assert answer.body == (FOLDER / "style.css").read_bytes()


def test_a_tag_changes_with_the_content(tmp_path: Path) -> None:
    tags = []
    for content in (b"one", b"two"):
        (tmp_path / "a.js").write_bytes(content)
        tags.append(Page(tmp_path).answer("a.js").headers["ETag"])
    assert tags[0] != tags[1]


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in CONTENT_POLICY
    assert set(re.findall(r"'[^']*'", CONTENT_POLICY)) == {"'none'", "'self'"}
    assert "default-src 'none'" in CONTENT_POLICY


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_file_names_another_server(path: Path) -> None:
    named = set(re.findall(r"(?:https?|wss?)://[^\s\"'`]+", path.read_text()))
    assert named <= {"http://www.w3.org/2000/svg"}


def test_the_document_holds_no_script_and_no_style_of_its_own() -> None:
    document = (FOLDER / "index.html").read_text()
    assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:", document)
    assert re.findall(r"<script[^>]*>(.*?)</script>", document, re.DOTALL) == [""]


def test_everything_a_file_refers_to_is_there() -> None:
    document = (FOLDER / "index.html").read_text()
    named = re.findall(r'(?:src|href)="static/([^"]+)"', document)
    for script in SCRIPTS:
        named += re.findall(r'"(?:\./|static/)([^"]+)"', script.read_text())
    assert {"app.js", "style.css", "pcm-player.js", "connection.js"} <= set(named)
    assert [name for name in named if not (FOLDER / name).is_file()] == []


def test_every_control_has_a_name() -> None:
    document = (FOLDER / "index.html").read_text()
    controls = re.findall(r"<(?:textarea|select|input)[^>]*>", document)
    labelled = re.findall(r"<label[^>]*>(?:(?!</label>).)*<(?:textarea|select|input)", document, re.DOTALL)
    assert len(controls) == len(labelled) + document.count('<label class="hidden" for="text">')
    for element in re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', document):
        assert f'id="{element}"' in document


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_in_both_themes(theme: int) -> None:
    blocks = re.findall(r":root \{([^}]*)\}", (FOLDER / "style.css").read_text())
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[theme]))
    for text, ground in [
        *((text, ground) for text in ("ink", "soft", "bad") for ground in ("card", "paper")),
        *[("ink", "field"), ("soft", "field"), ("ink", "accent-wash"), ("ink", "lift"), ("accent-ink", "accent")],
    ]:
        assert _contrast(colours[text], colours[ground]) >= 4.5, f"{text} on {ground}"
    assert _contrast(colours["edge"], colours["card"]) >= 3
    assert _contrast(colours["accent"], colours["paper"]) >= 3
