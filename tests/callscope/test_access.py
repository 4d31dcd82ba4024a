from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from callscope.access import ANYONE, Access, Grant, bearer_token
from callscope.clock import wall_ns
from callscope.config import load
from callscope.errors import ConfigError, Forbidden, Unauthorized

SECRET = "a secret of more than sixty-four characters, as a test of HS512 wants one"
HASHED = hashlib.sha256(b"the hashed token").hexdigest()
TOKENS = [
    {"name": "pbx", "token": "a token of some length", "tenant": "acme", "scopes": ["publish"]},
    {"name": "ops", "sha256": HASHED, "scopes": ["admin", "subscribe"]},
]


def access(**settings: Any) -> Access:
    return Access(load(access=settings).access)


def signed(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    all_claims = {
        "tenant": "acme",
        "scope": "publish subscribe",
        "exp": wall_ns() // 10**9 + 600,
        "sub": "pbx",
        **claims,
    }
    return jwt.encode({name: value for name, value in all_claims.items() if value is not ...}, key, algorithm)


def test_without_settings_everybody_may_do_everything() -> None:
    assert access().grant(None, "admin") == ANYONE
    assert access().is_open


def test_a_token_grants_its_scopes_to_its_tenant() -> None:
    grant = access(tokens=TOKENS).grant("a token of some length", "publish")
    assert grant == Grant("acme", frozenset({"publish"}), "pbx")
    assert access(tokens=TOKENS).grant("the hashed token", "admin").tenant == ""


@pytest.mark.parametrize("token", [None, "", "a token of some lengt", HASHED, "a token of some length "])
def test_no_token_or_another_is_not_let_in(token: str | None) -> None:
    with pytest.raises(Unauthorized):
        access(tokens=TOKENS).grant(token, "publish")


def test_a_token_for_something_else_is_forbidden() -> None:
    with pytest.raises(Forbidden, match="'subscribe'"):
        access(tokens=TOKENS).grant("a token of some length", "subscribe")


@given(st.text(max_size=300))
def test_any_text_is_unauthorised(token: str) -> None:
    with pytest.raises(Unauthorized):
        BOTH.grant(token, "publish")


BOTH = access(tokens=TOKENS, jwt={"algorithms": ["HS256"], "secret": SECRET})


def test_a_signed_token_grants_what_it_says() -> None:
    grant = BOTH.grant(signed(), "subscribe")
    assert grant == Grant("acme", frozenset({"publish", "subscribe"}), "pbx")
    assert BOTH.grant(signed(scope=["publish"]), "publish").scopes == {"publish"}
    assert BOTH.grant("a token of some length", "publish").tenant == "acme"


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (signed(exp=wall_ns() // 10**9 - 60), "expired"),
        (signed(exp=...), "neither"),
        (signed(exp=wall_ns() // 10**9 + 30 * 86_400), "longer than"),
        (signed(key="another secret of more than thirty-two"), "neither"),
        (signed(algorithm="HS512"), "neither"),
        (jwt.encode({"tenant": "acme", "scope": "publish"}, "", "none"), "neither"),
        (signed(tenant="../etc"), "claims"),
        (signed(tenant="a~b"), "claims"),
        (signed(tenant=...), "claims"),
        (signed(scope=...), "claims"),
        (signed(scope=7), "claims"),
        (signed(nbf=wall_ns() // 10**9 + 86_400), "neither"),
    ],
)
def test_a_signed_token_that_is_not_good(token: str, says: str) -> None:
    with pytest.raises(Unauthorized, match=says):
        BOTH.grant(token, "publish")


def test_audience_and_issuer_where_they_are_wanted() -> None:
    strict = access(jwt={"algorithms": ["HS256"], "secret": SECRET, "audience": "callscope", "issuer": "idp"})
    assert strict.grant(signed(aud=["callscope", "else"], iss="idp"), "publish").tenant == "acme"
    for wrong in ({"aud": "else", "iss": "idp"}, {"iss": "idp"}, {"aud": "callscope"}):
        with pytest.raises(Unauthorized):
            strict.grant(signed(**wrong), "publish")


def test_a_public_key_and_never_as_a_secret(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    public = access(jwt={"algorithms": ["ES256"], "public_key_file": str(tmp_path / "key.pem")})
    assert public.grant(signed(private, "ES256"), "publish").tenant == "acme"
    head, _, _ = signed("x" * 40).rpartition(".")  # HS256 in its header: the classic confusion
    with pytest.raises(Unauthorized):
        public.grant(head + ".AAAA", "publish")


def test_a_key_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    for path in (tmp_path / "key.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=r"public_key_file"):
            access(jwt={"algorithms": ["RS256"], "public_key_file": str(path)})


@pytest.mark.parametrize(
    "settings",
    [
        {"tokens": [{"name": "a", "token": "short"}]},
        {"tokens": [{"name": "a"}]},
        {"tokens": [{"name": "a", "token": "a token of some length", "tenant": "A/B"}]},
        {"jwt": {"algorithms": []}},
        {"jwt": {"algorithms": ["none"], "secret": SECRET}},
        {"jwt": {"algorithms": ["HS256", "RS256"], "secret": SECRET}},
        {"jwt": {"algorithms": ["RS256"], "secret": SECRET}},
        {"jwt": {"algorithms": ["HS256"], "secret": "too short"}},
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        access(**settings)


@pytest.mark.parametrize(
    ("authorization", "target", "token"),
    [
        ("Bearer abc", "/", "abc"),
        ("bearer  abc ", "/?token=else", "abc"),
        ("Basic abc", "/?token=abc", None),
        (None, "/v1/stream?token=a%20b&x=1", "a b"),
        (None, "/v1/stream", None),
        (None, "/v1/stream?token=", None),
    ],
)
def test_where_a_token_comes_in(authorization: str | None, target: str, token: str | None) -> None:
    assert bearer_token(authorization, target) == token


@given(st.text(max_size=50), st.text(max_size=200))
def test_any_header_and_address_is_read_or_not(authorization: str, target: str) -> None:
    bearer_token(authorization, "/" + target)
    bearer_token(None, "/" + target)
