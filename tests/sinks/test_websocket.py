"""The results server over real sockets."""

import asyncio
import http.client
import json
import socket
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from callscope.access import Access
from callscope.config import Sink, load
from callscope.errors import ConfigError
from sinks import pushing, websocket
from sinks.hub import Hub
from sinks.websocket import ResultsServer, is_loopback
from tests.sinks import records
from tests.sinks.serving import Served, serving

OPEN = Access(load().access)


async def ask(connection: ClientConnection, **request: object) -> dict[str, Any]:
    await connection.send(json.dumps({"type": "subscribe", **request}))
    return await take(connection)


async def take(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await connection.recv())
    return message


async def closing(connection: ClientConnection) -> tuple[int, str]:
    """Reads to the end; the close code and reason."""
    async with asyncio.timeout(10):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code, closed.rcvd.reason


async def get(served: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    def request() -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", served.server.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(request)


async def test_a_subscriber_gets_the_running_calls_and_then_results_with_their_ledger(served: Served) -> None:
    served.publish(*records.call_started())
    async with connect(served.results) as connection:
        answer = await ask(connection, calls=["c1"], kinds=["activity", "insight"])
        assert answer["type"] == "subscribed"
        assert answer["seq"] == 1
        assert [leg["leg"] for leg in answer["running"][0]["legs"]] == ["customer", "agent"]
        served.publish(records.level(0.0, call="other"), records.level(0.0), records.arousal(0.0, 1.0, 0.7))
        level, insight = await take(connection), await take(connection)
    assert (level["kind"], level["seq"], insight["kind"], insight["seq"]) == ("level", 2, "arousal", 3)
    ledger = insight["ledger"]
    assert ledger["latency_ms"] == pytest.approx((ledger["pushed_ns"] - ledger["arrived_ns"]) / 1e6, abs=0.001)
    assert 0 <= ledger["latency_ms"] < 5_000


async def test_a_later_request_replaces_the_former(served: Served) -> None:
    async with connect(served.results) as connection:
        await ask(connection, kinds=["insight"])
        await ask(connection, kinds=["features"], streams=["c1/agent"])
        served.publish(records.arousal(0.0, 1.0, 0.5), records.features(0.0, 1.0, leg="agent"))
        assert (await take(connection))["type"] == "features"


@pytest.mark.parametrize("request_text", ["hello", '{"type": "subscribe", "kinds": ["everything"]}', b"\x00"])
async def test_a_bad_request_is_explained_and_closes_with_4400(served: Served, request_text: str | bytes) -> None:
    async with connect(served.results) as connection:
        await connection.send(request_text)
        error = await take(connection)
        assert (error["type"], error["code"], error["seq"]) == ("error", "bad_request", 1)
        code, reason = await closing(connection)
    assert code == 4400
    assert error["message"].startswith(reason[:100])
    await served.until(lambda: not served.hub.subscribers)


async def test_asking_for_nothing_ends_in_4400(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "SUBSCRIBE_TIMEOUT_S", 0.05)
    async with connect(served.results) as connection:
        assert "Nothing was asked for" in (await take(connection))["message"]
        assert (await closing(connection))[0] == 4400


async def test_a_request_too_large_is_refused(served: Served) -> None:
    async with connect(served.results) as connection:
        await connection.send("x" * (websocket.MAX_REQUEST_BYTES + 1))
        assert (await closing(connection))[0] == 1009


async def test_more_subscribers_than_allowed_are_sent_away_with_1013() -> None:
    async with serving(max_subscribers=1) as served:
        async with connect(served.results) as first:
            await ask(first)
            async with connect(served.results) as second:
                assert (await take(second))["code"] == "too_many_subscribers"
                assert (await closing(second))[0] == 1013
        await served.until(lambda: not served.hub.subscribers)
        async with connect(served.results) as third:
            assert (await ask(third))["type"] == "subscribed"


async def test_one_who_stops_reading_loses_interim_results_and_at_last_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.2)
    async with serving(queue_messages=50) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, limit=1_024)
        handle = writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        lines = [
            "GET /v1/results HTTP/1.1",
            f"Host: 127.0.0.1:{served.server.port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await reader.readuntil(b"\r\n\r\n")
        request = b'{"type":"subscribe"}'
        writer.write(bytes([0x81, 0x80 | len(request), 0, 0, 0, 0]) + request)
        await served.until(lambda: any(found.subscription for found in served.hub.subscribers))
        (subscriber,) = served.hub.subscribers
        for number in range(20_000):  # more than any socket buffer holds
            served.publish(records.level(number / 10))
            if number % 50 == 0:
                await asyncio.sleep(0)
        assert len(subscriber) == 50
        assert served.too_slow() == [False], "only interim results went"
        served.publish(*(records.speech_start(float(number)) for number in range(60)))
        assert served.too_slow() == [True]
        await served.until(lambda: not served.hub.subscribers)
        writer.close()


async def test_one_who_stalls_without_a_full_queue_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "STALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.2)
    async with serving() as served:
        async with connect(served.results, max_queue=1, max_size=None) as connection:
            await ask(connection)
            connection.transport.pause_reading()
            big = {"note": "x" * 100_000}
            for number in range(200):
                served.publish(*records.call_started(f"c{number}", legs=[], metadata=big))
            await served.until(lambda: not served.hub.subscribers)
            connection.transport.abort()


async def test_closing_tells_subscribers_1001(served: Served) -> None:
    async with connect(served.results) as connection:
        await ask(connection)
        await served.server.close()
        assert (await closing(connection))[0] == 1001


async def test_closing_does_not_wait_for_one_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.2)
    async with serving() as served:
        async with connect(served.results, max_queue=1, max_size=None) as connection:
            await ask(connection)
            connection.transport.pause_reading()
            for number in range(200):
                served.publish(*records.call_started(f"c{number}", legs=[], metadata={"note": "x" * 100_000}))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(5):
                await served.server.close()
            connection.transport.abort()


async def test_the_page_its_files_and_their_headers(served: Served) -> None:
    for path, content_type in (("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css?v=1", "text/css")):
        status, headers, body = await get(served, path)
        assert status == 200
        assert headers["Content-Type"].startswith(content_type)
        assert len(body) > 100
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    assert (await get(served, "/", "HEAD"))[2] == b""


@pytest.mark.parametrize("path", ["/nothing", "/../sinks/app.py", "/dashboard/index.html", "//etc/passwd", "/%2e%2e/"])
async def test_nothing_else_is_served(served: Served, path: str) -> None:
    assert (await get(served, path))[0] == 404


async def test_other_methods_names_and_plain_http_to_the_socket(served: Served) -> None:
    assert (await get(served, "/", "DELETE"))[0] == 405
    assert (await get(served, "/", Host="evil.example"))[0] == 421
    assert (await get(served, "/v1/results"))[0] == 426


async def test_a_page_from_elsewhere_may_not_subscribe(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(served.results, origin="http://evil.example")  # type: ignore[arg-type]  # a NewType of str
    assert refused.value.response.status_code == 403
    async with connect(served.results, origin=f"http://127.0.0.1:{served.server.port}") as connection:  # type: ignore[arg-type]  # a NewType of str
        assert (await ask(connection))["type"] == "subscribed"


async def test_health_and_metrics() -> None:
    healthy = True
    async with serving(is_healthy=lambda: healthy) as served:
        assert (await get(served, "/healthz"))[0] == 200
        healthy = False
        assert (await get(served, "/healthz"))[0] == 503
        async with connect(served.results) as connection:
            await ask(connection)
            served.publish(records.level(0.0), records.level(0.0))
            await take(connection)
            text = (await get(served, "/metrics"))[2].decode()
    assert 'callscope_sink_messages_sent_total{type="activity"}' in text
    assert 'callscope_sink_latency_seconds_bucket{le="0.1",type="activity"}' in text
    assert "callscope_sink_duplicates_total" in text
    assert "callscope_sink_subscribers 1.0" in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "sink.internal"])
async def test_it_does_not_listen_beyond_this_machine_unless_told_to(host: str) -> None:
    with pytest.raises(ConfigError, match="ALLOW_UNAUTHENTICATED"):
        ResultsServer(Hub(10), Sink(host=host), OPEN)
    ResultsServer(Hub(10), Sink(host=host, allow_unauthenticated=True), OPEN)
    assert not is_loopback(host)


async def test_a_taken_port_is_explained(served: Served) -> None:
    with pytest.raises(ConfigError, match="CALLSCOPE_SINK__PORT"):
        await ResultsServer(Hub(10), Sink(port=served.server.port), OPEN).start()


async def test_a_flood_of_requests_is_answered_one_at_a_time(served: Served) -> None:
    async with connect(served.results, max_queue=None) as connection:
        for _ in range(500):
            await connection.send('{"type": "subscribe"}')
        answers = [await take(connection) for _ in range(500)]
    assert [answer["seq"] for answer in answers] == list(range(1, 501))


async def test_a_client_that_breaks_off_leaves_nothing(served: Served) -> None:
    connection = await connect(served.results)
    await ask(connection)
    connection.transport.abort()
    await served.until(lambda: not served.hub.subscribers)
    with pytest.raises(ConnectionClosedError):
        await connection.recv()
