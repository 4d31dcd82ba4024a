import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from callscope.streams import StreamId
from ingest.audio.framing import FRAME_SAMPLES
from ingest.session import RECORD_SAMPLES, AudioRecord, Session

STREAM = StreamId("call-1", "agent")


def frames(count: int, first: int = 0) -> np.ndarray:
    return (np.arange(count * FRAME_SAMPLES) + first).astype(np.int16)


def test_stream_id_is_the_kafka_key() -> None:
    assert str(STREAM) == "call-1/agent"


def test_a_20_ms_message_makes_a_20_ms_record() -> None:
    session = Session(STREAM)
    (first,) = session.audio(frames(1))
    (second,) = session.audio(frames(1, first=320))
    assert (first.seq, first.start, first.end) == (0, 0, 320)
    assert (second.seq, second.start, second.end) == (1, 320, 640)
    assert second.pcm == frames(1, first=320).astype("<i2").tobytes()


@given(messages=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 500)), max_size=10), rest=st.integers(0, 8))
def test_records_cover_the_media_time_without_holes(messages: list[tuple[int, int]], rest: int) -> None:
    session = Session(STREAM)
    records: list[AudioRecord] = []
    for count, gap in messages:
        session.skip(gap)
        records += session.audio(frames(count))
    tail = session.end(frames(rest))
    assert tail, "a stream always has a last record"
    assert [record.last for record in records + tail] == [False] * (len(records) + len(tail) - 1) + [True]
    clock = 0
    for seq, record in enumerate(records + tail):
        assert record.seq == seq
        assert record.start == clock + record.gap_before
        assert len(record.pcm) % (2 * FRAME_SAMPLES) == 0
        assert len(record.pcm) <= 2 * RECORD_SAMPLES
        assert record.pcm or record.last
        clock = record.end
    assert clock == session.clock == sum(count * FRAME_SAMPLES + gap for count, gap in messages) + rest * FRAME_SAMPLES


def test_one_channel_of_interleaved_audio_is_taken_as_it_lies() -> None:
    both = np.stack((frames(1), -frames(1)), axis=1)
    (record,) = Session(STREAM).audio(both[:, 1])
    assert np.array_equal(np.frombuffer(record.pcm, "<i2"), -frames(1))
