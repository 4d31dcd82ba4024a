import pytest

from ingest.protocols.twilio_signature import carries_signature, plivo_signature, signer, twilio_signature

SECRET = "12345678901234567890123456789012"
URL = "wss://callscope.example.com/ingest/twilio"


def test_the_known_signature() -> None:
    assert twilio_signature(SECRET, URL) == "KXwyviiSUx9Y7pnELObzljUKuBc="


def test_signatures_made_by_the_platforms_own_libraries() -> None:
    # twilio 9.13.0: RequestValidator(SECRET).compute_signature(url, {}); plivo 4.63.0: signature_v3.get_signature_v3.
    assert twilio_signature(SECRET, URL + "?a=1") == "e9qZAvROGKr2x3xMAqj+i6oaVm0="
    plivo_url = "wss://callscope.example.com/ingest/plivo?b=2&a=1"
    assert plivo_signature(SECRET, plivo_url, "12345") == "4xh47X2pEacXrQfppaor98QuCUzL3TtW3Im/BXugOnQ="


def test_the_signer_is_found_among_several() -> None:
    headers = {"x-twilio-signature": twilio_signature(SECRET, URL)}
    assert signer(["other", SECRET, "third"], URL, headers) == 1
    assert signer(["other"], URL, headers) is None
    assert signer([], URL, headers) is None


@pytest.mark.parametrize(
    "signed", ["wss://callscope.example.com:443/ingest/twilio", "wss://callscope.example.com/ingest/twilio"]
)
@pytest.mark.parametrize(
    "configured", ["wss://callscope.example.com:443/ingest/twilio", "wss://callscope.example.com/ingest/twilio"]
)
def test_the_usual_port_may_be_written_or_not(signed: str, configured: str) -> None:
    assert signer([SECRET], configured, {"x-twilio-signature": twilio_signature(SECRET, signed)}) == 0


def test_another_port_is_another_address() -> None:
    headers = {"x-twilio-signature": twilio_signature(SECRET, URL)}
    assert signer([SECRET], URL.replace(".com", ".com:8443"), headers) is None
    at_port = {"x-twilio-signature": twilio_signature(SECRET, URL.replace(".com", ".com:8443"))}
    assert signer([SECRET], URL.replace(".com", ".com:8443"), at_port) == 0


@pytest.mark.parametrize(
    "url",
    [URL + "/", URL + "?a=1", URL.replace("wss", "https"), URL.replace("example", "example2"), URL.upper()],
)
def test_any_other_address_is_refused(url: str) -> None:
    assert signer([SECRET], url, {"x-twilio-signature": twilio_signature(SECRET, URL)}) is None


@pytest.mark.parametrize("claimed", ["", "KXwyviiSUx9Y7pnELObzljUKuBc", "ÿ", "KXwyviiSUx9Y7pnELObzljUKuBd="])
def test_a_wrong_signature(claimed: str) -> None:
    assert signer([SECRET], URL, {"x-twilio-signature": claimed}) is None


def test_signalwire_signs_the_same_way() -> None:
    assert signer([SECRET], URL, {"x-signalwire-signature": twilio_signature(SECRET, URL)}) == 0


def test_plivo_signs_address_and_nonce() -> None:
    headers = {"x-plivo-signature-v3": plivo_signature(SECRET, URL, "42"), "x-plivo-signature-v3-nonce": "42"}
    assert signer([SECRET], URL, headers) == 0
    assert signer([SECRET], URL, headers | {"x-plivo-signature-v3-nonce": "43"}) is None
    several = headers | {"x-plivo-signature-v3": f"abc, {headers['x-plivo-signature-v3']}"}
    assert signer([SECRET], URL, several) == 0
    assert signer([SECRET], URL, {"x-plivo-signature-v3": plivo_signature(SECRET, URL, "")}) is None


def test_plivo_sorts_the_query() -> None:
    assert plivo_signature(SECRET, URL + "?b=2&a=1", "1") == plivo_signature(SECRET, URL + "?a=1&b=2", "1")
    assert plivo_signature(SECRET, URL + "?a=1", "1") != plivo_signature(SECRET, URL, "1")


def test_whether_a_request_is_signed_at_all() -> None:
    assert carries_signature({"x-twilio-signature": ""})
    assert carries_signature({"x-plivo-signature-v3": "x"})
    assert not carries_signature({"authorization": "Bearer x"})
