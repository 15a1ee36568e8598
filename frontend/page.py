"""The page people open in a browser: its files, read once, and the headers that keep foreign code out of it.

Pure: a name and what the browser has already in, status, headers and bytes out. It knows no web framework.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("static")
INDEX = "index.html"

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Nothing inline and nothing from elsewhere; the socket and the requests go to where the page came from.
CONTENT_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    # Asked again each time, and answered 304: a new version of the page is there at once, and whole.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class File:
    """One file of the page; `tag` changes with its content."""

    content: bytes
    kind: str
    tag: str


@dataclass(frozen=True)
class Answer:
    """What the browser gets."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Page:
    """The files of one folder by their names. Read once, so a request never reaches the file system."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.name: _read(path) for path in folder.iterdir() if path.suffix in KINDS}

    def answer(self, name: str, if_none_match: str | None = None) -> Answer:
        """The file of that name, 304 if the browser has it, or 404."""
        file = self._files.get(name)
        if file is None:
            return Answer(404, {**HEADERS, "Content-Type": "text/plain; charset=utf-8"}, b"no such file\n")
        headers = {**HEADERS, "Content-Type": file.kind, "ETag": file.tag}
        if if_none_match is not None and _names(if_none_match, file.tag):
            return Answer(304, headers)
        return Answer(200, headers, file.content)


def _read(path: Path) -> File:
    content = path.read_bytes()
    return File(content, KINDS[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _names(if_none_match: str, tag: str) -> bool:
    # A proxy that compresses makes a tag weak, and the content is still the same.
    tags = (part.strip().removeprefix("W/") for part in if_none_match.split(","))
    return any(given in ("*", tag) for given in tags)
