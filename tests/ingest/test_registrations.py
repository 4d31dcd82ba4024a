from uuid import UUID

import pytest

from callscope.errors import StreamExists, TooManyStreams
from callscope.streams import StreamId
from ingest.registrations import Registration, Registrations

FIRST, SECOND, THIRD = (UUID(int=n) for n in (1, 2, 3))


def registration(call_id: str) -> Registration[str]:
    return Registration(StreamId(call_id, "customer"), "tenant", {})


def test_a_uuid_is_good_for_one_connection() -> None:
    registrations: Registrations[str] = Registrations(60, 10)
    registrations.add(FIRST, registration("call-1"), 0)
    assert registrations.take(SECOND, 1) is None
    assert registrations.take(FIRST, 1) == registration("call-1")
    assert registrations.take(FIRST, 1) is None


def test_it_expires() -> None:
    registrations: Registrations[str] = Registrations(60, 10)
    registrations.add(FIRST, registration("call-1"), 0)
    registrations.add(SECOND, registration("call-2"), 30)
    assert registrations.take(FIRST, 60) is None
    assert registrations.take(SECOND, 60) == registration("call-2")


def test_the_same_uuid_twice() -> None:
    registrations: Registrations[str] = Registrations(60, 10)
    registrations.add(FIRST, registration("call-1"), 0)
    with pytest.raises(StreamExists):
        registrations.add(FIRST, registration("call-2"), 1)
    assert registrations.take(FIRST, 2) == registration("call-1"), "nobody can take over what another announced"


def test_only_so_many_wait_and_the_old_make_room() -> None:
    registrations: Registrations[str] = Registrations(60, 2)
    registrations.add(FIRST, registration("call-1"), 0)
    registrations.add(SECOND, registration("call-2"), 1)
    with pytest.raises(TooManyStreams):
        registrations.add(THIRD, registration("call-3"), 2)
    registrations.add(THIRD, registration("call-3"), 60)
    assert len(registrations) == 2
