"""Target and host to endpoint and path, without touching a byte of the path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_router.targets import Target, parse_target


@pytest.mark.parametrize(
    ("raw", "host", "app", "path"),
    [
        ("/llama/v1/chat", "h", "llama", "/v1/chat"),
        ("/llama", "h", "llama", "/"),
        ("/llama/", "h", "llama", "/"),
        ("/llama?x=1", "h", "llama", "/?x=1"),
        ("/llama?x=/a/b", "h", "llama", "/?x=/a/b"),
        ("/llama/a%2Fb?q=%20&r", "h", "llama", "/a%2Fb?q=%20&r"),
        ("/llama//x/../y", "h", "llama", "//x/../y"),
        ("/", "h", None, "/"),
        ("//x", "h", None, "/x"),
        ("/?x", "h", None, "/?x"),
        ("http://other/llama/x", "h", "llama", "/x"),
        ("HTTP://other", "h", None, "/"),
        ("http://other?q", "h", None, "/?q"),
        ("/v1/x", "llama.ex.com", "llama", "/v1/x"),
        ("/v1/x", "LLAMA.ex.com:8080", "llama", "/v1/x"),
        ("http://llama.ex.com/v1/x", "mean.ex.com", "llama", "/v1/x"),
        ("/v1/x", "a.llama.ex.com", "v1", "/x"),
        ("/v1/x", "ex.com", "v1", "/x"),
        ("/v1/x", ".ex.com", "v1", "/x"),
    ],
)
def test_where_a_request_goes(raw: str, host: str, app: str | None, path: str) -> None:
    assert parse_target(raw, host, "ex.com") == Target(app, path)


@pytest.mark.parametrize("raw", ["*", "host:443", "", "ftp://x/y"])
def test_what_is_no_path_goes_nowhere(raw: str) -> None:
    assert parse_target(raw, "h", None) is None


def test_without_a_domain_no_host_names_an_endpoint() -> None:
    assert parse_target("/v1/x", "llama.ex.com", None) == Target("v1", "/x")


@given(st.text("abc/.%?&=2F", max_size=20))
def test_the_rest_of_the_path_is_never_changed(rest: str) -> None:
    target = parse_target("/llama/" + rest, "h", None)
    assert target == Target("llama", "/" + rest)
