"""Which requests the pages answer, and with what headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.pages import content_security_policy, is_allowed_origin, is_known_host, load_pages


def test_every_file_of_the_dashboard_is_listed_and_refers_to_nothing_elsewhere() -> None:
    pages = load_pages()
    assert pages["/"].content_type.startswith("text/html")
    for path, page in pages.items():
        text = page.body.decode()
        for outside in ("https://", "http://", "//cdn", "@import", "innerHTML", "outerHTML", "insertAdjacentHTML"):
            if path == "/icon.svg" and outside == "http://":
                continue  # the name of the SVG namespace
            assert outside not in text, f"{path} has {outside}"


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:7071", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("[::1]:7071", True),
        ("calls.example:443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1:7071; script-src *", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts_of_a_server_that_listens_on_loopback(host: str | None, known: bool) -> None:
    assert is_known_host(host, loopback_only=True, origins=("https://calls.example:443",)) is known


def test_a_server_open_to_others_has_names_it_does_not_know() -> None:
    assert is_known_host("sink.internal:7071", loopback_only=False, origins=())
    assert not is_known_host("a b", loopback_only=False, origins=())


@given(st.text(max_size=30))
def test_no_host_can_add_to_the_policy(host: str) -> None:
    if is_known_host(host, loopback_only=False, origins=()):
        assert content_security_policy(host).count(";") == content_security_policy("a").count(";")
        assert not set(host) & set("; ,'\"\r\n")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:7071", True),
        ("https://127.0.0.1:7071", True),
        ("https://calls.example", True),
        ("http://127.0.0.1:8000", False),
        ("http://evil.example", False),
        ("http://127.0.0.1:7071.evil.example", False),
        ("null", False),
        ("file://", False),
    ],
)
def test_only_pages_of_the_same_host_may_subscribe(origin: str | None, allowed: bool) -> None:
    assert is_allowed_origin(origin, "127.0.0.1:7071", ("https://calls.example",)) is allowed
