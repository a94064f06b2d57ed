"""A new driver gives out nothing before it knows what its predecessors gave out."""

from penstock_router.slot_protocol.claims import ASK_AGAIN_S, LIMIT_S, Claims, Question, Reigns


def claims(*, fresh: bool = False) -> Claims:
    made = Claims("rt-me")
    made.begin("wk-1", "ep-1", 2, fresh=fresh, now=0.0)
    return made


def test_a_worker_that_nobody_drove_needs_no_answers() -> None:
    assert claims(fresh=True).settled("wk-1", 2)
    assert not claims(fresh=True).open


def test_every_living_router_is_asked_and_waited_for() -> None:
    made = claims()
    plan = made.plan(("rt-me", "rt-a", "rt-b"), now=0.0)
    assert plan.questions == [Question(r, "wk-1", "ep-1", 2) for r in ("rt-a", "rt-b")]
    assert made.told("rt-a", "wk-1", 2, ()) == "ep-1"
    assert not made.plan(("rt-me", "rt-a", "rt-b"), now=0.1).settled
    made.told("rt-b", "wk-1", 2, ())
    assert made.plan(("rt-me", "rt-a", "rt-b"), now=0.2).settled == [("wk-1", "ep-1")]
    assert made.settled("wk-1", 2)
    assert not made.settled("wk-1", 3)


def test_a_router_that_is_lost_meanwhile_is_waited_for_no_more() -> None:
    made = claims()
    made.plan(("rt-a",), now=0.0)
    assert made.plan((), now=1.0).settled == [("wk-1", "ep-1")]


def test_questions_are_repeated_with_a_pause() -> None:
    made = claims()
    assert made.plan(("rt-a",), now=0.0).questions
    assert not made.plan(("rt-a",), now=ASK_AGAIN_S / 2).questions
    assert made.plan(("rt-a",), now=ASK_AGAIN_S).questions


def test_a_living_router_that_never_answers_is_not_waited_for_for_ever() -> None:
    made = claims()
    assert not made.plan(("rt-a",), now=LIMIT_S - 0.1).settled
    plan = made.plan(("rt-a",), now=LIMIT_S)
    assert plan.settled == [("wk-1", "ep-1")]
    assert plan.overdue == [("wk-1", frozenset({"rt-a"}))]


def test_an_answer_to_an_older_claim_is_none() -> None:
    made = claims()
    assert made.told("rt-a", "wk-1", 1, ()) is None
    assert made.told("rt-a", "wk-9", 2, ()) is None


def test_a_claim_ends_with_the_reign() -> None:
    made = claims()
    made.end("wk-1")
    assert not made.knows("wk-1", 2)
    assert not made.open


def test_offers_of_an_earlier_epoch_or_run_are_void_after_a_claim() -> None:
    reigns = Reigns()
    assert reigns.allows("wk-1", 1, "rt-a", "run-1", now=0.0)
    assert reigns.claim("wk-1", 2, "rt-b", "run-1", now=1.0)
    assert not reigns.allows("wk-1", 1, "rt-a", "run-1", now=2.0)
    assert reigns.allows("wk-1", 2, "rt-b", "run-1", now=2.0)
    assert reigns.claim("wk-1", 2, "rt-b", "run-2", now=3.0)
    assert not reigns.allows("wk-1", 2, "rt-b", "run-1", now=3.0)
    assert not reigns.claim("wk-1", 1, "rt-a", "run-9", now=4.0)
    assert reigns.epoch("wk-1") == 2


def test_an_offer_of_a_later_epoch_is_news() -> None:
    reigns = Reigns()
    reigns.claim("wk-1", 2, "rt-b", "run-1", now=0.0)
    assert reigns.allows("wk-1", 3, "rt-c", "run-1", now=1.0)
    assert not reigns.allows("wk-1", 2, "rt-b", "run-1", now=1.0)


def test_workers_that_are_long_gone_are_forgotten() -> None:
    reigns = Reigns()
    reigns.claim("wk-1", 2, "rt-b", "run-1", now=0.0)
    reigns.forget(("wk-1",), now=9999.0)
    assert reigns.epoch("wk-1") == 2
    reigns.forget((), now=9999.0)
    assert reigns.epoch("wk-1") == 0
