"""Order and completeness of a lane, whatever Kafka, the disk and the process do: a simulation without any of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.spool import framing
from ingest.spool.framing import HEADER_BYTES, MARK_AT, header, mark
from ingest.spool.lane import Item, Lane, Read, Write

AFTER_S = 1.0
SEGMENT_BYTES = 400
"""A few records."""


def item(number: int) -> Item:
    return Item("audio.frames", "call/leg", b"%05d" % number, seq=number)


@dataclass
class Machine:
    """One gateway process after the other, a Kafka and a disk.

    Attributes:
        log: numbers of the records Kafka has, in its order.
        files: the segments' bytes.
        client: the Kafka client's queue.
        job: what the disk is at.
        kept: numbers of the records that were said to be on disk.
    """

    log: list[int] = field(default_factory=list)
    files: dict[int, bytearray] = field(default_factory=dict)
    client: list[Item] = field(default_factory=list)
    job: Write | Read | None = None
    kept: set[int] = field(default_factory=set)
    lane: Lane = field(default_factory=lambda: Lane(SEGMENT_BYTES))
    now: float = 0.0
    made: int = 0

    def produce(self) -> None:
        new = item(self.made)
        self.made += 1
        if self.lane.direct:
            self.lane.handed_over(new, self.now)
            self.client.append(new)
        else:
            self.lane.keep(new)

    def tick(self) -> None:
        self.lane.look(self.now, AFTER_S)
        for _ in range(3):
            if (due := self.lane.next_up()) is not None:
                self.lane.handed_over(due, self.now)
                self.client.append(due)
        if self.job is None:
            self.job = self.lane.next_write() or self.lane.next_read()
        for number, delivered in self.lane.marks():
            self.files[number][MARK_AT:HEADER_BYTES] = mark(delivered)
        for number in self.lane.removable():
            self.files.pop(number, None)

    def disk(self, *, works: bool) -> None:
        """The disk finishes its job, or fails, and what it did of it is undone."""
        job, self.job = self.job, None
        if isinstance(job, Write):
            if works:
                self.write(job)
                self.kept |= {written.seq for written, *_ in job.items}
            self.lane.written(job) if works else self.lane.not_written(job)
        elif isinstance(job, Read):
            if not works:
                self.lane.not_read()
                return
            held = self.files[job.segment][job.offset : job.offset + job.size]
            frames, more = framing.decode(bytes(held))
            found = [(Item(r.topic, r.key, r.value, seq=r.seq), end) for r, end in frames]
            assert self.lane.was_read(job, found, more) == 0

    def write(self, job: Write, torn: int | None = None) -> None:
        for number, offset, data in job.pieces if torn is None else job.pieces[:1]:
            self.files.setdefault(number, bytearray(header()))[offset:] = data[:torn]

    def kafka_takes(self, count: int) -> None:
        for taken in self.client[:count]:
            self.log.append(taken.seq)
            self.lane.settled(taken)
        del self.client[:count]

    def crash(self, torn: int) -> None:
        """The process dies, perhaps when so many bytes of a write were on disk, and another begins."""
        if isinstance(self.job, Write):
            self.write(self.job, torn)
        self.client, self.job = [], None
        self.lane = Lane(SEGMENT_BYTES)
        for number in sorted(self.files):
            data = bytes(self.files[number])
            delivered = framing.delivered_of(data)
            assert delivered is not None
            frames, _ = framing.decode(data[HEADER_BYTES:])
            ends = [HEADER_BYTES + end for _, end in frames]
            length = ends[-1] if ends else HEADER_BYTES
            del self.files[number][length:]
            self.lane.recover(number, min(delivered, length), length, sum(end > delivered for end in ends))

    def settle(self) -> None:
        """All goes well for long enough."""
        for _ in range(2 * self.made + 20):
            if self.lane.direct and not (self.client or self.job or self.files):
                return
            self.kafka_takes(len(self.client))
            self.tick()
            self.disk(works=True)
            self.now += 0.01

    def on_disk(self) -> set[int]:
        return {
            record.seq for data in self.files.values() for record, _ in framing.decode(bytes(data[HEADER_BYTES:]))[0]
        }


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("produce"), st.integers(1, 5)),
        st.tuples(st.just("tick"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 3)),
        st.tuples(st.just("kafka"), st.integers(1, 6)),
        st.tuples(st.just("disk"), st.just(0)),
        st.tuples(st.just("disk fails"), st.just(0)),
    ),
    max_size=40,
)


def run(machine: Machine, steps: list[tuple[str, int]]) -> None:
    for step, count in steps:
        match step:
            case "produce":
                for _ in range(count):
                    machine.produce()
            case "tick":
                machine.tick()
            case "wait":
                machine.now += count * AFTER_S / 2
            case "kafka":
                machine.kafka_takes(count)
            case "disk":
                machine.disk(works=True)
            case "disk fails":
                machine.disk(works=False)


@given(STEPS)
@settings(max_examples=200)
def test_everything_arrives_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    machine = Machine()
    run(machine, steps)
    machine.settle()
    assert machine.log == list(range(machine.made))
    assert machine.lane.direct and not machine.files and machine.lane.records == machine.lane.pending_bytes == 0


@given(STEPS, st.integers(0, 300), STEPS)
@settings(max_examples=200)
def test_after_a_crash_all_that_was_on_disk_arrives_in_order_and_only_what_kafka_had_comes_twice(
    before: list[tuple[str, int]], torn: int, after: list[tuple[str, int]]
) -> None:
    machine = Machine()
    run(machine, before)
    had, made = list(machine.log), machine.made
    machine.crash(torn)
    there = machine.on_disk()
    run(machine, after)
    machine.settle()
    came = machine.log[len(had) :]
    assert came == sorted(set(came)), "in order, and each once"
    assert set(had) | set(came) >= machine.kept | set(range(made, machine.made)), "nothing is lost"
    assert {seq for seq in came if seq < made} <= there
    assert machine.lane.direct and not machine.files


def away(records: int) -> Machine:
    """Kafka has been away for a while."""
    machine = Machine()
    for _ in range(records):
        machine.produce()
    machine.now += 2 * AFTER_S
    machine.tick()
    return machine


def test_while_kafka_acknowledges_nothing_is_written() -> None:
    machine = Machine()
    for _ in range(50):
        machine.produce()
        machine.now += 0.9 * AFTER_S
        machine.tick()
        machine.kafka_takes(1)
    assert machine.lane.direct and machine.job is None and not machine.files


def test_what_is_under_way_is_copied_to_disk_before_what_comes_then() -> None:
    machine = away(3)
    machine.produce()
    machine.disk(works=True)
    machine.tick()
    machine.disk(works=True)
    assert machine.on_disk() == {0, 1, 2, 3}
    assert [taken.seq for taken in machine.client] == [0, 1, 2], "the client keeps its own"
    machine.settle()
    assert machine.log == [0, 1, 2, 3]


def test_with_a_disk_that_fails_records_go_to_kafka_out_of_memory() -> None:
    machine = away(2)
    for _ in range(5):
        machine.produce()
        machine.disk(works=False)
        machine.tick()
    for _ in range(30):
        machine.kafka_takes(10)
        machine.disk(works=False)
        machine.tick()
    assert machine.log == list(range(7))
    assert machine.lane.direct


def test_records_that_rotted_on_disk_are_given_up_with_the_rest_of_their_segment_and_no_others() -> None:
    machine = away(1)
    for _ in range(12):
        machine.produce()
    for _ in range(4):
        machine.disk(works=True)
        machine.tick()
    machine.disk(works=True)
    assert len(machine.files) > 1
    first = min(machine.files)
    held = {record.seq for record, _ in framing.decode(bytes(machine.files[first][HEADER_BYTES:]))[0]}
    machine.files[first][-3] ^= 1
    machine.kafka_takes(1)
    given_up = 0
    for _ in range(60):
        machine.kafka_takes(10)
        machine.tick()
        job, machine.job = machine.job, None
        if isinstance(job, Read):
            data = bytes(machine.files[job.segment][job.offset : job.offset + job.size])
            frames, more = framing.decode(data)
            given_up += machine.lane.was_read(
                job, [(Item(r.topic, r.key, r.value, seq=r.seq), end) for r, end in frames], more
            )
    assert given_up > 0
    assert machine.log == [seq for seq in range(13) if seq != max(held)]
    assert machine.lane.direct


def test_what_went_to_kafka_out_of_memory_is_written_before_what_waits_when_kafka_is_away_again() -> None:
    machine = away(1)
    for _ in range(3):
        machine.produce()
    machine.disk(works=False)
    machine.kafka_takes(1)
    machine.lane.look(machine.now, AFTER_S)
    due = machine.lane.next_up()
    assert due is not None and due.seq == 1
    machine.lane.handed_over(due, machine.now)
    machine.client.append(due)
    machine.now += 2 * AFTER_S
    machine.tick()
    machine.disk(works=True)
    records, _ = framing.decode(bytes(machine.files[1][HEADER_BYTES:]))
    assert [record.seq for record, _ in records] == [1, 2, 3]
    machine.settle()
    assert machine.log == [0, 1, 2, 3]


def test_after_a_crash_nothing_comes_twice_that_was_marked() -> None:
    machine = away(2)
    machine.produce()
    machine.kafka_takes(1)
    machine.disk(works=True)  # 0 is in Kafka before its copy is on disk
    machine.produce()
    machine.tick()
    assert (framing.delivered_of(bytes(machine.files[1])) or 0) > HEADER_BYTES
    machine.disk(works=True)
    machine.kafka_takes(1)
    for _ in range(3):
        machine.tick()
        machine.disk(works=True)
    machine.kafka_takes(1)
    machine.tick()
    assert machine.log == [0, 1, 2] and machine.files
    machine.crash(0)
    machine.settle()
    assert machine.log == [0, 1, 2, 3]
