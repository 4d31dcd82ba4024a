import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.errors import NotPublished
from callscope.streams import StreamId
from ingest.delivery import Delivery
from ingest.session import AudioRecord

RECORDS = [AudioRecord(StreamId("c", "l"), seq, seq * 320, bytes(640)) for seq in range(6)]


@given(st.permutations(RECORDS))
def test_published_is_what_has_no_hole_before_it(order: list[AudioRecord]) -> None:
    delivery = Delivery()
    for _ in RECORDS:
        delivery.handed_over()
    there: set[int] = set()
    for record in order:
        delivery.acknowledged(record)
        there.add(record.seq)
        unbroken = next((seq for seq in range(len(RECORDS)) if seq not in there), len(RECORDS))
        assert delivery.published == unbroken * 320
        assert delivery.in_flight == len(RECORDS) - len(there)


def test_a_lost_record_stops_the_clock_and_is_told() -> None:
    delivery = Delivery()
    for _ in range(3):
        delivery.handed_over()
    delivery.acknowledged(RECORDS[0])
    delivery.check()
    delivery.lost("Broker: Not enough in-sync replicas")
    delivery.acknowledged(RECORDS[2])
    assert delivery.published == 320
    assert delivery.in_flight == 0
    with pytest.raises(NotPublished, match="Not enough in-sync replicas"):
        delivery.check()
