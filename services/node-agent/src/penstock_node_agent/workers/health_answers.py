"""What came of a health probe, in a sentence for the person whose image it is [pure].

A sentence has the request, the port and the status, and nothing else of what the worker said: its
body, its reason phrase and the query of `health.path` may hold what is nobody else's. The port is
the one that the endpoint's owner knows: `image.http_port` of a container, `$PORT` of a process.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from penstock_common.messages import RuntimeKind
from penstock_node_agent.runtimes.listener import Listener

_OK: Final = 200
#: How many ports a sentence names.
_PORTS_NAMED: Final = 5
#: Mean that nothing answers for now: servers say so while they load.
_FOR_NOW: Final = frozenset({500, 502, 503, 504})
_MAY_TAKE_LONGER: Final = "or raise workers.start_timeout_s if it needs longer"


class Reply(StrEnum):
    """What a probe met."""

    #: an HTTP status, or with no path to ask for, an open connection
    ANSWERED = "answered"
    #: bytes that are not HTTP
    NOT_HTTP = "not_http"
    #: the connection was closed before a status came
    CLOSED = "closed"
    #: nobody took the connection
    REFUSED = "refused"
    #: no connection for another reason
    NO_WAY = "no_way"
    #: nothing in the time there was
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one probe."""

    reply: Reply
    #: HTTP status; None = no path was asked for, or none came
    status: int | None = None
    #: a byte of the worker came, or its connection stayed open
    listening: bool = False
    #: `timed_out`: how long was waited, seconds
    waited_s: float = 0.0
    #: `no_way`: what the kernel said
    error: str = ""

    @property
    def healthy(self) -> bool:
        """Whether the worker said that it is well."""
        return self.reply is Reply.ANSWERED and self.status in (None, _OK)

    @property
    def is_riddle(self) -> bool:
        """Whether a look at the worker's ports, or whether it speaks TLS, may say more."""
        # Servers that take TLS alone answer plain HTTP with 400, if at all.
        silent = self.reply in (Reply.REFUSED, Reply.CLOSED, Reply.NOT_HTTP)
        return silent or self.status == 400


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of a worker, as its owner would say it."""

    #: None = a connection is enough
    path: str | None
    port: int
    runtime: RuntimeKind

    @property
    def text(self) -> str:
        """The request, without a query."""
        if self.path is None:
            return "a connection"
        path, query, _ = self.path.partition("?")
        return f"GET {path}{query and '?…'}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at the worker showed beside its answer."""

    #: where it listens; None = not known
    listeners: tuple[Listener, ...] | None = None
    #: it speaks TLS on the port
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a worker is not healthy."""

    #: one sentence, without the full stop
    problem: str
    #: which field to change, or what in the image
    fix: str
    #: it may yet come by itself, as of a worker that loads its model
    may_pass: bool = False


def diagnose(question: Question, answer: Answer, sight: Sight = Sight()) -> Diagnosis:  # frozen
    """Why a worker is not healthy, and what to do.

    Args:
        question: what was asked.
        answer: what came, of a worker that is not healthy.
        sight: what else is known of it.
    """
    port = question.port
    if sight.tls:
        return Diagnosis(
            f"port {port} speaks TLS, and was asked in plain HTTP",
            "let the image serve plain HTTP there: the router ends TLS, workers get none",
        )
    match answer.reply:
        case Reply.ANSWERED:
            return _of_status(question, answer.status or 0)
        case Reply.NOT_HTTP:
            return Diagnosis(
                f"port {port} answered {question.text} with something that is not HTTP/1.1",
                f"let the image serve HTTP/1.1 there{_or_port(question)}",
            )
        case Reply.TIMED_OUT:
            return Diagnosis(
                f"{question.text} on port {port} was not answered within {answer.waited_s:.3g} s",
                f"raise health.timeout_s, let it answer sooner, {_MAY_TAKE_LONGER}",
                may_pass=True,
            )
        case Reply.NO_WAY:
            return Diagnosis(
                f"no connection to port {port}: {answer.error}",
                "check the way from the node agent to its workers",
                may_pass=True,
            )
        case Reply.CLOSED | Reply.REFUSED:
            return _of_no_server(question, answer, sight.listeners)


def _of_status(question: Question, status: int) -> Diagnosis:
    problem = f"{question.text} on port {question.port} answered {status}"
    if 300 <= status < 400:
        return Diagnosis(
            f"{problem}, a redirect, which is not followed",
            "set health.path to where it leads",
        )
    if status in (401, 403):
        return Diagnosis(
            problem,
            "set health.path to a path that needs no credentials: a probe carries none",
        )
    if status in _FOR_NOW:
        return Diagnosis(
            problem,
            f"its log says why; let health.path answer 200 once it is ready, {_MAY_TAKE_LONGER}",
            may_pass=True,
        )
    return Diagnosis(problem, f"set health.path to a path that answers GET with 200{_or_none()}")


def _of_no_server(
    question: Question, answer: Answer, listeners: Sequence[Listener] | None
) -> Diagnosis:
    port = question.port
    ours = [listener for listener in listeners or () if listener.port == port]
    if any(not listener.for_itself for listener in ours) or answer.listening:
        return Diagnosis(
            f"the worker closed the connection to port {port} without an answer to {question.text}",
            f"its log says why; let the image serve HTTP/1.1 there, {_MAY_TAKE_LONGER}",
            may_pass=True,
        )
    if ours:
        return Diagnosis(
            f"the worker listens on port {port} of {_hosts(ours)} alone, where only it reaches "
            "itself",
            "let it listen on all addresses (0.0.0.0)",
        )
    if listeners:
        return _of_other_ports(question, listeners)
    nobody = f"nothing listens on port {port}"
    if listeners is None and answer.reply is Reply.CLOSED:
        nobody += ", or what does closes connections without an answer"
    return Diagnosis(nobody, f"{_listen(question)}, {_MAY_TAKE_LONGER}", may_pass=True)


def _of_other_ports(question: Question, listeners: Sequence[Listener]) -> Diagnosis:
    open_ports = sorted({one.port for one in listeners if not one.for_itself})
    ports = open_ports or sorted({one.port for one in listeners})
    named = [str(port) for port in ports[:_PORTS_NAMED]]
    if len(ports) > _PORTS_NAMED:
        named.append(f"{len(ports) - _PORTS_NAMED} more")
    where = f"port {named[0]}" if len(named) == 1 else f"ports {_and(named)}"
    if not open_ports:
        where += f" of {_hosts(listeners)} alone"
    problem = f"nothing listens on port {question.port}; the worker listens on {where}"
    if question.runtime == "process":
        # Its port is picked for each worker: it has no field.
        return Diagnosis(problem, _listen(question))
    fitting = named[0] if len(ports) == 1 else "the one that serves HTTP"
    also = "" if open_ports else " and let it listen on all addresses (0.0.0.0)"
    return Diagnosis(
        problem, f"set image.http_port to {fitting}{also}, or let it listen on 0.0.0.0:$PORT"
    )


def _listen(question: Question) -> str:
    field = "" if question.runtime == "process" else " or set image.http_port to its port"
    return f"let it listen on 0.0.0.0:$PORT{field}"


def _or_port(question: Question) -> str:
    field = ", or set image.http_port to the port that does"
    return "" if question.runtime == "process" else field


def _or_none() -> str:
    return ", or to null if an open port is enough"


def _hosts(listeners: Iterable[Listener]) -> str:
    return _and(sorted({listener.host for listener in listeners}))


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
