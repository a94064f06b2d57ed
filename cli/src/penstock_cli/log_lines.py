"""A service's JSON log line as a line for a person [pure]."""

import json
from typing import Final

#: Fields that every line has, or that say the same as the message.
_PLAIN: Final = frozenset({"ts", "level", "service", "logger", "message", "action", "exception"})
NAME_WIDTH: Final = 11


def for_person(name: str, line: str) -> str:
    """`12:00:01.123 router      listening url=http://…`; a line that is no JSON stays as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or "message" not in record:
        return f"{name:<{NAME_WIDTH}} {line}"
    fields = " ".join(f"{k}={v}" for k, v in record.items() if k not in _PLAIN)
    clock = str(record.get("ts", ""))[11:23]
    level = str(record.get("level", "info"))
    mark = "" if level in ("info", "debug") else f"{level.upper()} "
    text = f"{clock} {name:<{NAME_WIDTH}} {mark}{record['message']}"
    text += f" {fields}" if fields else ""
    exception = record.get("exception")
    return f"{text}\n{exception}" if exception else text
