"""Lines of the children's logs, as a person wants to read them [pure]."""

import json
import re
from typing import Final

#: Fields that every line has, or that say the same as the message.
_PLAIN: Final = frozenset({"ts", "level", "service", "logger", "message", "action", "exception"})
NAME_WIDTH: Final = 11
_NATS_LINE: Final = re.compile(r"\[\d+\] \S+ (?P<clock>\S{12})\d* \[(?P<level>\w+)\] ?(?P<text>.*)")


def from_nats(line: str) -> str | None:
    """A nats-server's log line as our JSON; None for what a person need not see.

    Left out: its banner and other information, and the word that its password is no hash (the file
    that holds it is the owner's alone).
    """
    match = _NATS_LINE.match(line)
    if match is None:
        return json.dumps({"message": line})
    if match["level"] == "INF" or match["text"].startswith("Plaintext passwords"):
        return None
    level = "warning" if match["level"] == "WRN" else "error"
    return json.dumps(
        {"ts": f"0000-00-00T{match['clock']}", "level": level, "message": match["text"]}
    )


def for_person(name: str, line: str) -> str:
    """`12:00:01.123 router      listening url=http://…`; a line that is no JSON stays as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or "message" not in record:
        return f"{name:<{NAME_WIDTH}} {line}"
    fields = " ".join(f"{k}={v}" for k, v in record.items() if k not in _PLAIN and v is not None)
    clock = str(record.get("ts", ""))[11:23]
    level = str(record.get("level", "info"))
    mark = "" if level in ("info", "debug") else f"{level.upper()} "
    text = f"{clock} {name:<{NAME_WIDTH}} {mark}{record['message']}"
    text += f" {fields}" if fields else ""
    exception = record.get("exception")
    return f"{text}\n{exception}" if exception else text
