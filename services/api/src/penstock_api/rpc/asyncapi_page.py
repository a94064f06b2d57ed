"""The page `/docs/asyncapi`: the AsyncAPI document as HTML that needs nothing from outside [pure]."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from penstock_api.docs_page import component, form, page_head, prose

Schema = Mapping[str, Any]


def asyncapi_page(document: Schema) -> str:
    """The HTML page of this AsyncAPI document, as `asyncapi_document` makes it."""
    info = document["info"]
    access = document["components"]["securitySchemes"]["user"]["description"]
    parts = [
        *page_head(info["title"], info["version"]),
        f"<p>{prose(info['description'])}</p><p>{prose(access)}</p>",
        "<p>For programs: <a href=/asyncapi.json>/asyncapi.json</a>.",
        "Over HTTP: <a href=/docs>/docs</a>.</p>",
        "<nav><a href=#calls>calls</a><a href=#events>events</a>",
        "<a href=#documents>documents</a></nav>",
    ]
    for tag in info["tags"]:
        parts.append(f"<h2 id={tag['name']}>{tag['name']}</h2>")
        parts.extend(
            _operation(document, name, operation)
            for name, operation in document["operations"].items()
            if tag in operation["tags"]
        )
    parts.append("<h2 id=documents>documents</h2>")
    parts.extend(component(*item) for item in document["components"]["schemas"].items())
    return "\n".join(parts)


def _operation(document: Schema, name: str, operation: Schema) -> str:
    channel = _resolve(document, operation["channel"])
    parts = [
        f"<details id='{escape(name)}'><summary><code>{escape(channel['address'])}</code>",
        f"<span class=dim>{escape(operation['summary'])}</span></summary>",
        f"<p>{prose(operation['description'])}</p>",
    ]
    for parameter, told in channel.get("parameters", {}).items():
        parts.append(f"<p><code>{{{escape(parameter)}}}</code>: {prose(told['description'])}</p>")
    parts += ["<table><tr><th>message<th>headers<th>body</tr>"]
    messages = [*operation["messages"], *operation.get("reply", {}).get("messages", ())]
    parts.extend(_message(_resolve(document, reference)) for reference in messages)
    parts.append("</table></details>")
    return "\n".join(parts)


def _message(message: Schema) -> str:
    headers = message.get("headers", {})
    rows = "<br>".join(_headers(headers)) or "-"
    body = f"{form(message['payload'])} as <code>{escape(message['contentType'])}</code>"
    return f"<tr><td>{escape(message['name'])}<td>{rows}<td>{body}</tr>"


def _headers(headers: Schema) -> Iterable[str]:
    for name, schema in headers.get("properties", {}).items():
        must = ", required" if name in headers.get("required", ()) else ""
        told = prose(schema.get("description", ""))
        yield f"<code>{escape(name)}</code> {form(schema)}{must} <span class=dim>{told}</span>"


def _resolve(document: Schema, reference: Schema) -> Schema:
    """What a reference leads to, over as many others as it takes."""
    found: Any = reference
    while "$ref" in found:
        path = found["$ref"].removeprefix("#/").split("/")
        found = document
        for part in path:
            found = found[part]
    resolved: Schema = found
    return resolved
