"""What `penstock endpoint curl` makes of its command line."""

import pytest

from penstock_cli.commands.endpoint_curl import plan_call

URL = "http://127.0.0.1:8080/llama"


@pytest.mark.parametrize(
    ("rest", "url", "options"),
    [
        ([], URL, []),
        (["/v1/models"], f"{URL}/v1/models", []),
        (["v1/models", "-s"], f"{URL}/v1/models", ["-s"]),
        (["?a=b"], f"{URL}?a=b", []),
        (["-X", "POST", "/not-a-path"], URL, ["-X", "POST", "/not-a-path"]),
        (["--", "-X", "POST"], URL, ["-X", "POST"]),
        (["/x", "--", "--data", "--", "--print"], f"{URL}/x", ["--data", "--", "--print"]),
        (["/x", "-d", '{"a": "b c"}', ""], f"{URL}/x", ["-d", '{"a": "b c"}', ""]),
    ],
)
def test_a_path_comes_first_and_the_rest_is_curl_s(
    rest: list[str], url: str, options: list[str]
) -> None:
    call = plan_call(URL, rest, public=False)
    assert (call.url, list(call.options), call.with_key) == (url, options, True)


@pytest.mark.parametrize(
    "rest",
    [
        ["-H", "Authorization: Bearer mine"],
        ["/x", "--header", "authorization: Basic eA=="],
        ["-HAuthorization: Bearer mine"],
    ],
)
def test_who_gives_credentials_gets_no_others(rest: list[str]) -> None:
    assert not plan_call(URL, rest, public=False).with_key
    assert plan_call(URL, ["-H", "X-Authorization: a", "-H"], public=False).with_key


def test_a_public_endpoint_gets_no_key() -> None:
    assert not plan_call(URL, ["/x"], public=True).with_key
