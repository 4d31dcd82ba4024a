import socket
from collections.abc import Iterator

import pytest

from callscope.broker import ports
from callscope.broker.ports import choose_port, free_ports, is_free
from callscope.errors import PortTaken


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    with socket.create_server((request.param, 0)) as server:
        yield server.getsockname()[1]


def test_a_listener_on_loopback_or_on_all_addresses_takes_a_port(taken: int) -> None:
    assert not is_free(taken)


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(is_free(port) for port in ports)


def test_a_named_port_that_is_taken_is_an_error_that_says_what_to_do(taken: int) -> None:
    with pytest.raises(PortTaken) as caught:
        choose_port(taken)
    for hint in (f"Port {taken}", "CALLSCOPE_BROKER__PORT", f"CALLSCOPE_KAFKA=127.0.0.1:{taken}"):
        assert hint in str(caught.value)


def test_without_a_named_one_the_usual_port_is_used_where_free(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = free_ports(1)[0]
    monkeypatch.setattr(ports, "USUAL_PORT", usual)
    assert choose_port(None) == usual
    assert choose_port(None, usual=False) != usual


def test_and_a_free_one_where_the_usual_is_taken(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "USUAL_PORT", taken)
    assert choose_port(None) != taken
