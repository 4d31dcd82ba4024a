import base64
import hmac
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadSignature, NonceCacheFull, Unauthorized
from ingest.protocols import http_signature
from ingest.protocols.http_signature import (
    Nonces,
    SignatureVerifier,
    SignedRequest,
    is_signed,
    normal_authority,
    sign,
)

SECRET = base64.b64decode("Y2FsbHNjb3BlLXRlc3Qtc2VjcmV0LTAxMjM0NTY3ODk=")
KEY = "callscope-test-key"
NONCE = "AAECAwQFBgcICQoLDA0ODxAR"
CREATED = 1_767_225_600
COMPONENTS = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)
HEADERS = (
    ("Host", "callscope.example.com"),
    ("Audiohook-Organization-Id", "11111111-1111-4111-8111-111111111111"),
    ("Audiohook-Session-Id", "22222222-2222-4222-8222-222222222222"),
    ("Audiohook-Correlation-Id", "33333333-3333-4333-8333-333333333333"),
    ("X-API-KEY", KEY),
)
TARGET = "/ingest/audiohook"


def signed(
    headers: Sequence[tuple[str, str]] = HEADERS,
    components: Sequence[str] = COMPONENTS,
    *,
    target: str = TARGET,
    **changes: Any,
) -> SignedRequest:
    request = SignedRequest(target, headers)
    parameters: dict[str, Any] = {
        "key_id": KEY,
        "secret": SECRET,
        "nonce": NONCE,
        "created_s": CREATED,
        "expires_s": CREATED + 30,
        **changes,
    }
    return SignedRequest(target, [*headers, *sign(request, components, **parameters).items()])


def verifier(**limits: Any) -> SignatureVerifier:
    return SignatureVerifier(COMPONENTS, **limits)


def replaced(request: SignedRequest, name: str, old: str, new: str) -> SignedRequest:
    headers = [(field, value.replace(old, new) if field.lower() == name else value) for field, value in request.headers]
    assert headers != list(request.headers)
    return SignedRequest(request.target, headers)


def test_the_reference_vector() -> None:
    request = signed()
    assert request.header("signature") == "sig1=:wpO0uCxW1++4vqrf507GATlMBGdb8DrsmGrecblftyE=:"
    verifier().verify(request, KEY, SECRET, CREATED)


def test_the_vendors_documented_example_signs_host_instead_of_authority() -> None:
    # github.com/purecloudlabs/audiohook-reference-implementation, test/httpsignature/signature-builder.test.ts
    key = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
    request = SignedRequest(
        "/api/v1/voicebiometrics/ws",
        [
            ("host", "audiohook.example.com"),
            ("audiohook-organization-id", "d7934305-0972-4844-938e-9060eef73d05"),
            ("audiohook-session-id", "30b0e395-84d3-4570-ac13-9a62d8f514c0"),
            ("audiohook-correlation-id", "e160e428-53e2-487c-977d-96989bf5c99d"),
            ("x-api-key", key),
            (
                "signature-input",
                'sig1=("@request-target" "host" "audiohook-organization-id" "audiohook-session-id" '
                f'"audiohook-correlation-id" "x-api-key");keyid="{key}";nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";'
                'alg="hmac-sha256";created=1641013200;expires=3282026430',
            ),
            ("signature", "sig1=:zupMJUMfd/kMuvKc5zhRyfJPE3jTROuz1S1hn8SCTpE=:"),
        ],
    )
    secret = base64.b64decode("TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=")
    either = SignatureVerifier(["@request-target", ("@authority", "host"), "x-api-key"])
    either.verify(request, key, secret, 1_641_013_205)
    with pytest.raises(BadSignature, match="@authority"):
        verifier().verify(request, key, secret, 1_641_013_205)


def test_the_drafts_own_example_for_a_shared_secret() -> None:
    # draft-ietf-httpbis-message-signatures-11, B.2.5, whose signature has no nonce: the text to sign is compared.
    secret = base64.b64decode(
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    )
    line = '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'

    request = SignedRequest(
        "/foo",
        [
            ("Host", "example.com"),
            ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("Content-Type", "application/json"),
            ("Signature", "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"),
        ],
    )
    signature = http_signature._Signature(
        ("date", "@authority", "content-type"), {}, line, http_signature._mac(request, "sig-b25")
    )

    assert hmac.digest(secret, signature.text(request), "sha256") == signature.mac


@pytest.mark.parametrize("after_s", [-3, 0, 9.9, 10])
def test_a_signature_holds_for_ten_seconds_and_clocks_may_differ_by_three(after_s: float) -> None:
    verifier().verify(signed(), KEY, SECRET, CREATED + after_s)


@pytest.mark.parametrize(("after_s", "says"), [(-3.1, "future"), (10.1, "expired"), (1e9, "expired")])
def test_outside_of_it_it_does_not(after_s: float, says: str) -> None:
    with pytest.raises(BadSignature, match=says):
        verifier().verify(signed(), KEY, SECRET, CREATED + after_s)


def test_expires_may_end_it_earlier() -> None:
    with pytest.raises(BadSignature, match="expired"):
        verifier().verify(signed(expires_s=CREATED + 2), KEY, SECRET, CREATED + 3)


@pytest.mark.parametrize("field", [name for name, _ in HEADERS])
def test_whatever_is_covered_cannot_be_changed(field: str) -> None:
    request = signed()
    value = request.header(field.lower())
    assert value is not None
    with pytest.raises(BadSignature):
        verifier().verify(replaced(request, field.lower(), value, value + "1"), KEY, SECRET, CREATED)


def test_nor_the_path_or_query() -> None:
    request = signed(target="/audiohook?tenant=a")
    verifier().verify(request, KEY, SECRET, CREATED)
    with pytest.raises(BadSignature, match="not good"):
        verifier().verify(SignedRequest("/audiohook?tenant=b", request.headers), KEY, SECRET, CREATED)


@pytest.mark.parametrize("component", COMPONENTS)
def test_everything_required_must_be_covered(component: str) -> None:
    request = signed(components=[name for name in COMPONENTS if name != component])
    with pytest.raises(BadSignature, match=f"does not cover '{component}'"):
        verifier().verify(request, KEY, SECRET, CREATED)


def test_a_wrong_secret_an_unknown_key_and_an_empty_secret_are_not_good() -> None:
    for secret in (b"another", None, b""):
        with pytest.raises(BadSignature, match="not good"):
            verifier().verify(signed(secret=b"\0" if not secret else SECRET), KEY, secret, CREATED)


def test_a_signature_is_used_once() -> None:
    once = verifier()
    once.verify(signed(), KEY, SECRET, CREATED)
    with pytest.raises(BadSignature, match="used before"):
        once.verify(signed(), KEY, SECRET, CREATED + 5)
    with pytest.raises(BadSignature, match="used before"):  # the same nonce in another signature
        once.verify(signed(created_s=CREATED + 4), KEY, SECRET, CREATED + 5)


def test_a_bad_signature_uses_no_nonce_up() -> None:
    once = verifier()
    with pytest.raises(BadSignature):
        once.verify(signed(secret=b"guess"), KEY, SECRET, CREATED)
    once.verify(signed(), KEY, SECRET, CREATED)


def test_nonces_are_bounded_and_none_is_forgotten_before_its_time() -> None:
    few = verifier(nonces=2)
    for n in range(2):
        few.verify(signed(nonce=NONCE + str(n)), KEY, SECRET, CREATED)
    with pytest.raises(NonceCacheFull):
        few.verify(signed(nonce=NONCE + "2"), KEY, SECRET, CREATED)
    with pytest.raises(BadSignature, match="used before"):
        few.verify(signed(nonce=NONCE + "0"), KEY, SECRET, CREATED)
    few.verify(signed(nonce=NONCE + "2", created_s=CREATED + 11), KEY, SECRET, CREATED + 11)
    assert len(few._nonces) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_no_nonce_is_taken_twice_within_its_life(steps: list[tuple[int, int]]) -> None:
    nonces = Nonces(4)
    now = 0.0
    taken: dict[int, float] = {}
    for name, pause in steps:
        now += pause
        try:
            nonces.use("key", str(name), now, now + 5)
        except Unauthorized:
            continue
        assert taken.get(name, -1.0) < now
        taken[name] = now + 5
        assert len(nonces) <= 4


@pytest.mark.parametrize(
    ("header", "value", "says"),
    [
        ("signature-input", "", "No signature"),
        ("signature-input", "sig1", "no list"),
        ("signature-input", "sig1=1", "no list"),
        ("signature-input", "sig1=(", "not a structured field"),
        ("signature-input", 'sig1=("x-api-key")', "No signature"),
        ("signature-input", "sig1=(x-api-key);keyid=", "not a structured field"),
        ("signature-input", f'sig1=(host);keyid="{KEY}"', "plain string"),
        ("signature-input", f'sig1=("host";sf);keyid="{KEY}"', "plain string"),
        ("signature-input", f'sig1=("host" "host");keyid="{KEY}"', "twice"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";tag="x"', "unknown parameter: 'tag'"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";alg="rsa"', "algorithm"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";created=1', "nonce"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";nonce="short";created=1', "nonce"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";nonce="{NONCE}"', "when it was created"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";nonce="{NONCE}";created="1"', "'created'"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";nonce="{NONCE}";created=-1', "'created'"),
        ("signature-input", f'sig1=("host");keyid="{KEY}";nonce="{NONCE}";created=1;expires=1.5', "'expires'"),
        ("signature-input", "\xe9", "not a structured field"),
        ("signature", "sig1=1", "no signature 'sig1'"),
        ("signature", "sig2=:AAAA:", "no signature 'sig1'"),
        ("signature", "sig1=:AAAA:", "not good"),
        ("signature", "sig1=:A!:", "not a structured field"),
    ],
)
def test_malformed_signatures_are_refused_with_the_reason(header: str, value: str, says: str) -> None:
    request = SignedRequest(TARGET, [(name, value if name == header else text) for name, text in signed().headers])
    with pytest.raises(BadSignature, match=says):
        verifier().verify(request, KEY, SECRET, CREATED)


def test_components_that_a_handshake_has_not_are_refused() -> None:
    for name in ("@query-params", "x-not-there"):
        with pytest.raises(BadSignature, match=name):
            signed(components=[*COMPONENTS, name])


@given(st.text(max_size=60), st.text(max_size=40))
def test_any_garbage_in_the_headers_is_a_bad_signature(signature_input: str, signature: str) -> None:
    request = SignedRequest(TARGET, [*HEADERS, ("signature-input", signature_input), ("signature", signature)])
    with pytest.raises(BadSignature):
        verifier().verify(request, KEY, SECRET, CREATED)


def test_a_request_without_signature() -> None:
    assert not is_signed(SignedRequest(TARGET, HEADERS))
    assert is_signed(signed())
    with pytest.raises(BadSignature, match="no Signature-Input"):
        verifier().verify(SignedRequest(TARGET, HEADERS), KEY, SECRET, CREATED)


def test_the_authority_is_as_configured_where_a_proxy_changes_the_host() -> None:
    request = signed()
    behind = replaced(request, "host", "callscope.example.com", "10.0.0.7:7070")
    with pytest.raises(BadSignature, match="not good"):
        verifier().verify(behind, KEY, SECRET, CREATED)
    verifier().verify(SignedRequest(TARGET, behind.headers, "callscope.example.com"), KEY, SECRET, CREATED)


@pytest.mark.parametrize(
    ("host", "normal"),
    [("A.example:443", "a.example"), ("a:80", "a"), ("a:8443", "a:8443"), (" [::1]:7070", "[::1]:7070")],
)
def test_authorities_are_lower_case_without_the_usual_port(host: str, normal: str) -> None:
    assert normal_authority(host) == normal
