import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import BadHello
from ingest.protocols.hello import given_legs, given_name, json_object, metadata_of, platform_name
from schemas.v1.events_pb2 import CallEvent


def test_metadata_is_flat_short_and_without_secrets() -> None:
    told = metadata_of(
        {"a": "x" * 300, "b" * 70: 1, "c": 1.5, "d": True, "e": None, "f": {"g": 1}, "": "x", "Token": "secret"}
    )
    assert told == {"a": "x" * 256, "b" * 64: "1", "c": "1.5", "d": "true"}
    assert len(metadata_of({str(n): "x" for n in range(100)})) == 32


@given(st.dictionaries(st.text(st.characters()), st.text(st.characters()) | st.integers() | st.floats()))
def test_any_metadata_can_be_written_to_kafka(fields: dict[str, object]) -> None:
    CallEvent(metadata=metadata_of(fields)).SerializeToString()


def test_half_a_surrogate_pair() -> None:
    hello = json_object('{"a":"\\ud800"}')
    assert hello is not None
    assert metadata_of(hello) == {"a": "?"}


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '"a"', "[" * 5_000, '{"a":"' + "x" * 70_000 + '"}'])
def test_no_object(text: str) -> None:
    assert json_object(text) is None


@pytest.mark.parametrize("name", ["", "a/b", "a~b", "a b", "x" * 129, 7, None, ["a"]])
def test_names_that_cannot_be(name: object) -> None:
    with pytest.raises(BadHello, match="call_id"):
        given_name(name, "call_id")


def test_what_a_platform_calls_a_call() -> None:
    assert platform_name("PJSIP/alice-0001") == "PJSIP-alice-0001"
    assert platform_name(17) == "17"
    assert platform_name(None) is platform_name("") is platform_name({"a": 1}) is None


def test_legs() -> None:
    assert given_legs("customer, agent", 2) == ("customer", "agent")
    for wrong in ("customer", "a,a", "a,b,c", "a,"):
        with pytest.raises(BadHello):
            given_legs(wrong, 2)
