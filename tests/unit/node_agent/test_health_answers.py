"""What a person is told of a health probe: a sentence that names the fix, and no secret."""

import itertools
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.workers.health_answers import (
    Answer,
    Question,
    Reply,
    Sight,
    diagnose,
)
from penstock_node_agent.workers.health_watch import Pace

DOCKER = Question("/health", 8000, "docker")
PROCESS = replace(DOCKER, port=20013, runtime="process")
REFUSED, CLOSED = Answer(Reply.REFUSED), Answer(Reply.CLOSED)


def answered(status: int) -> Answer:
    return Answer(Reply.ANSWERED, status, listening=True)


def sees(*listeners: tuple[str, int]) -> Sight:
    return Sight(tuple(Listener(host, port) for host, port in listeners))


@pytest.mark.parametrize(
    ("question", "answer", "sight", "problem", "fix"),
    [
        (
            DOCKER,
            answered(404),
            Sight(),
            "GET /health on port 8000 answered 404",
            (
                "set health.path to a path that answers GET with 200, or to null if an open port is "
                "enough"
            ),
        ),
        (
            DOCKER,
            answered(307),
            Sight(),
            "GET /health on port 8000 answered 307, a redirect, which is not followed",
            "set health.path to where it leads",
        ),
        (
            DOCKER,
            answered(401),
            Sight(),
            "GET /health on port 8000 answered 401",
            "set health.path to a path that needs no credentials: a probe carries none",
        ),
        (
            DOCKER,
            answered(400),
            Sight(tls=True),
            "port 8000 speaks TLS, and was asked in plain HTTP",
            "let the image serve plain HTTP there: the router ends TLS, workers get none",
        ),
        (
            DOCKER,
            CLOSED,
            sees(("0.0.0.0", 5000)),
            "nothing listens on port 8000; the worker listens on port 5000",
            "set image.http_port to 5000, or let it listen on 0.0.0.0:$PORT",
        ),
        (
            DOCKER,
            REFUSED,
            sees(("0.0.0.0", 9000), ("::", 5000), ("127.0.0.1", 6000), ("0.0.0.0", 5000)),
            "nothing listens on port 8000; the worker listens on ports 5000 and 9000",
            "set image.http_port to the one that serves HTTP, or let it listen on 0.0.0.0:$PORT",
        ),
        (
            DOCKER,
            CLOSED,
            sees(("127.0.0.1", 5000)),
            "nothing listens on port 8000; the worker listens on port 5000 of 127.0.0.1 alone",
            (
                "set image.http_port to 5000 and let it listen on all addresses (0.0.0.0), or let it "
                "listen on 0.0.0.0:$PORT"
            ),
        ),
        (
            DOCKER,
            CLOSED,
            sees(("127.0.0.1", 8000), ("::1", 8000)),
            (
                "the worker listens on port 8000 of 127.0.0.1 and ::1 alone, where only it reaches "
                "itself"
            ),
            "let it listen on all addresses (0.0.0.0)",
        ),
        (
            PROCESS,
            REFUSED,
            sees(("0.0.0.0", 5000)),
            "nothing listens on port 20013; the worker listens on port 5000",
            "let it listen on 0.0.0.0:$PORT",
        ),
        (
            DOCKER,
            Answer(Reply.NOT_HTTP, listening=True),
            sees(("::", 8000)),
            "port 8000 answered GET /health with something that is not HTTP/1.1",
            "let the image serve HTTP/1.1 there, or set image.http_port to the port that does",
        ),
    ],
)
def test_a_mistake_is_told_with_the_field_to_change(
    question: Question, answer: Answer, sight: Sight, problem: str, fix: str
) -> None:
    told = diagnose(question, answer, sight)
    assert (told.problem, told.fix, told.may_pass) == (problem, fix, False)


@pytest.mark.parametrize(
    ("answer", "sight", "problem", "words"),
    [
        (answered(503), Sight(), "GET /health on port 8000 answered 503", ("health.path",)),
        (REFUSED, sees(), "nothing listens on port 8000", ("$PORT", "image.http_port")),
        (REFUSED, Sight(), "nothing listens on port 8000", ("$PORT", "image.http_port")),
        (
            CLOSED,
            Sight(),
            "nothing listens on port 8000, or what does closes connections without an answer",
            ("$PORT",),
        ),
        (
            CLOSED,
            sees(("::", 8000)),
            "the worker closed the connection to port 8000 without an answer to GET /health",
            ("its log",),
        ),
        (
            Answer(Reply.TIMED_OUT, waited_s=0.25),
            Sight(),
            "GET /health on port 8000 was not answered within 0.25 s",
            ("health.timeout_s",),
        ),
        (
            Answer(Reply.NO_WAY, error="No route to host"),
            Sight(),
            "no connection to port 8000: No route to host",
            (),
        ),
    ],
)
def test_what_may_come_by_itself_is_told_apart(
    answer: Answer, sight: Sight, problem: str, words: tuple[str, ...]
) -> None:
    told = diagnose(DOCKER, answer, sight)
    assert (told.problem, told.may_pass) == (problem, True)
    assert [word for word in words if word not in told.fix] == []
    if words:
        assert "workers.start_timeout_s" in told.fix


def test_without_a_path_a_connection_is_asked_for() -> None:
    told = diagnose(replace(DOCKER, path=None), CLOSED, sees(("::", 8000)))
    assert told.problem.endswith("without an answer to a connection")


answers = st.builds(
    Answer,
    st.sampled_from(Reply),
    st.none() | st.integers(100, 999),
    listening=st.booleans(),
    waited_s=st.floats(0, 600),
    error=st.just("No route to host"),
).filter(lambda answer: not answer.healthy)
sights = st.builds(
    Sight,
    st.none()
    | st.lists(
        st.builds(
            Listener,
            st.sampled_from(["0.0.0.0", "::", "127.0.0.1", "::1", "172.18.0.2"]),
            st.integers(1, 65_535) | st.just(8000),
        ),
        max_size=12,
    ).map(tuple),
    st.booleans(),
)
questions = st.builds(
    Question,
    st.none() | st.just("/health?token=hush"),
    st.just(8000),
    st.sampled_from(["docker", "process"]),
)


@given(questions, answers, sights)
def test_every_answer_has_a_short_sentence_and_a_fix_without_the_query(
    question: Question, answer: Answer, sight: Sight
) -> None:
    told = diagnose(question, answer, sight)
    both = f"{told.problem}; {told.fix}"
    assert "hush" not in both
    assert told.problem
    assert told.fix
    assert len(both) < 400
    assert set(both) <= set(string.printable) - set("\n\r\t\v\f") | {"…"}
    assert question.runtime == "docker" or "image.http_port" not in both


@given(st.lists(st.floats(0.002, 30), max_size=500))
def test_a_worker_is_told_about_ever_more_seldom(pauses: list[float]) -> None:
    pace, now, told = Pace(), 0.0, [0.0]
    for pause in pauses:
        now += pause
        if pace.due(now):
            told.append(now)
    for before, after in itertools.pairwise(told):
        assert after - before >= max(1.0, before * 0.05) - 1e-9


def test_a_start_of_fifteen_minutes_is_told_about_a_hundred_times_at_most() -> None:
    pace = Pace()
    assert sum(pace.due(tenth / 10) for tenth in range(9_000)) <= 100


def test_a_start_that_takes_no_second_is_not_told_about() -> None:
    assert not Pace().due(0.99)
