"""The page `/docs`: the OpenAPI document as one HTML page that needs nothing from outside [pure]."""

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

Schema = Mapping[str, Any]

_COMPONENT: Final = "#/components/schemas/"
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--dim:#8889;--key:#0a7}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:4.5rem;color:var(--key)}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{overflow:auto;padding:.6rem;background:#8881}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{border-bottom:1px solid var(--line);padding:.25rem .5rem;text-align:left;vertical-align:top}
nav a{margin-right:1rem}.dim{opacity:.7}
"""


def docs_page(document: Schema) -> str:
    """The HTML page of this OpenAPI document."""
    info = document["info"]
    tags = [tag["name"] for tag in document["tags"]]
    parts = [
        *page_head(f"{info['title']} API", info["version"]),
        f"<p>{escape(info['summary'])}</p>",
        "<p>Send an API key as <code>Authorization: Bearer &lt;key&gt;</code>.</p>",
        "<p>For programs: <a href=/openapi.json>/openapi.json</a>.",
        "Over NATS: <a href=/docs/asyncapi>/docs/asyncapi</a>.</p>",
        "<nav>",
        *(f"<a href='#{_anchor(tag)}'>{escape(tag)}</a>" for tag in tags),
        "<a href=#documents>documents</a></nav>",
    ]
    for tag in tags:
        parts.append(f"<h2 id='{_anchor(tag)}'>{escape(tag)}</h2>")
        parts.extend(_operations(document, tag))
    parts.append("<h2 id=documents>documents</h2>")
    parts.extend(component(*item) for item in document["components"]["schemas"].items())
    return "\n".join(parts)


def page_head(title: str, version: str) -> Iterable[str]:
    """How a page begins: its title, and the style of all of them."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)} <span class=dim>{escape(version)}</span></h1>",
    )


def _operations(document: Schema, tag: str) -> Iterable[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield _operation(method.upper(), path, operation)


def _operation(method: str, path: str, operation: Schema) -> str:
    parts = [
        f"<details id='{escape(operation['operationId'])}'>",
        f"<summary><b>{method}</b> <code>{escape(path)}</code>",
        f"<span class=dim>{escape(operation['summary'])}</span></summary>",
    ]
    if "description" in operation:
        parts.append(f"<p>{prose(operation['description'])}</p>")
    if operation["parameters"]:
        parts.append("<table><tr><th>parameter<th>in<th>form<th>meaning</tr>")
        parts.extend(
            f"<tr><td><code>{escape(p['name'])}</code><td>{p['in']}<td>{form(p['schema'])}"
            f"<td>{prose(p.get('description', ''))}</tr>"
            for p in operation["parameters"]
        )
        parts.append("</table>")
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: {form(content['schema'])} as <code>{media_type}</code></p>")
    parts.append("<table><tr><th>status<th>answer</tr>")
    for status, response in operation["responses"].items():
        forms = (
            f"{form(content['schema'])} as <code>{media_type}</code>"
            for media_type, content in response["content"].items()
        )
        described = escape(response["description"])
        parts.append(f"<tr><td>{status} {described}<td>{' or '.join(forms)}</tr>")
    parts.append("</table></details>")
    return "\n".join(parts)


def component(name: str, schema: Schema) -> str:
    """A document: its fields, their forms, defaults and meanings."""
    parts = [
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>",
        f"<p>{prose(schema.get('description', ''))}</p>",
    ]
    if "properties" in schema:
        required = schema.get("required", ())
        parts.append("<table><tr><th>field<th>form<th>default<th>meaning</tr>")
        for field, inner in schema["properties"].items():
            default = "required" if field in required else _default(inner)
            meaning = inner.get("description") or " ".join(
                one["description"] for one in inner.get("anyOf", ()) if "description" in one
            )
            parts.append(
                f"<tr><td><code>{escape(field)}</code><td>{form(inner)}<td>{default}"
                f"<td>{prose(meaning)}</tr>"
            )
        parts.append("</table>")
    else:
        parts.append(f"<p>{form(schema)}</p>")
    return "\n".join([*parts, "</details>"])


def _default(schema: Schema) -> str:
    return f"<code>{escape(json.dumps(schema['default']))}</code>" if "default" in schema else ""


def form(schema: Schema) -> str:
    """A schema in a few words, e.g. `integer from 1 to 65535`."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).removeprefix(_COMPONENT))
        return f"<a href='#{name}'>{name}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(map(form, schema[several]))
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(v))}</code>" for v in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {form(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {form(schema['additionalProperties'])}"
    return escape(" ".join([kind, *_bounds(schema)]))


def _bounds(schema: Schema) -> Iterable[str]:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "exclusiveMaximum": "below {}",
        "maxLength": "of at most {} characters",
        "pattern": "matching {}",
        "format": "({})",
    }
    for keyword, form in words.items():
        if keyword in schema:
            yield form.format(schema[keyword])


def prose(text: str) -> str:
    """Text with its `code` marked as such."""
    pieces = escape(text).split("`")
    marked = (f"<code>{piece}</code>" if n % 2 else piece for n, piece in enumerate(pieces))
    return "".join(marked)


def _anchor(tag: str) -> str:
    return "tag-" + tag.replace(" ", "-")
