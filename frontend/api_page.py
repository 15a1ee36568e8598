"""openapi.json as a page for people: plain HTML without scripts, in the style of the server's own page.

Pure: a description in, HTML out. It knows no web framework.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_METHODS = ("get", "post", "delete")


def page(description: Mapping[str, Any]) -> str:
    """The whole page."""
    title = escape(description["info"]["title"])
    body = "\n".join(_body(description))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}: HTTP API</title>\n<link rel="stylesheet" href="/static/style.css">\n{body}\n</html>\n'
    )


def _body(description: Mapping[str, Any]) -> Iterator[str]:
    info = description["info"]
    yield f"<h1>{escape(info['title'])}</h1>\n<p>{escape(info['description'])}</p>"
    yield '<p>For programs: <a href="/openapi.json">openapi.json</a></p>\n<main class="api">'
    for path, item in description["paths"].items():
        for method in _METHODS:
            if method in item:
                yield from _operation(description, f"{method.upper()} {path}", item[method])
    yield "</main>"


def _operation(description: Mapping[str, Any], name: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<section class="card">\n<h2><code>{escape(name)}</code></h2>\n<p>{escape(operation["summary"])}.</p>'
    if "description" in operation:
        yield f"<p>{escape(operation['description'])}</p>"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h3><code>{escape(kind)}</code></h3>"
        yield from _fields(_resolved(description, content["schema"]))
    yield "<dl>"
    for status, answer in operation["responses"].items():
        found = _resolved(description, answer)
        kinds = ", ".join(found.get("content", {}))
        suffix = f" (<code>{escape(kinds)}</code>)" if kinds else ""
        yield f"<dt><code>{status}</code></dt><dd>{escape(found['description'])}{suffix}</dd>"
    yield "</dl>\n</section>"


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "<dl>"
    for name, field in schema["properties"].items():
        need = ", required" if name in schema.get("required", ()) else ""
        yield f"<dt><code>{escape(name)}</code>: {escape(_kind(field))}{need}</dt>"
        yield f"<dd>{escape(field.get('description', ''))}</dd>"
    yield "</dl>"


def _kind(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        kind = " | ".join(map(str, field["enum"]))
    elif "oneOf" in field:
        kind = " or ".join(_kind(choice) for choice in field["oneOf"])
    else:
        kind = field["type"]
    if "minimum" in field:
        kind += f" from {field['minimum']}" + (f" to {field['maximum']}" if "maximum" in field else "")
    return kind + (f" (default {field['default']})" if "default" in field else "")


def _resolved(description: Mapping[str, Any], found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `$ref` stands for, or the thing itself."""
    if "$ref" not in found:
        return found
    target: Any = description
    for step in found["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return _resolved(description, target)
