"""Who may see what: tokens at the sink, and tenants that do not see one another."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.sinks import records
from tests.sinks.serving import Served, serving

ACCESS = {
    "tokens": [
        {"name": "a", "token": "token-of-tenant-a", "tenant": "a", "scopes": ["subscribe"]},
        {"name": "b", "token": "token-of-tenant-b", "tenant": "b", "scopes": ["subscribe"]},
        {"name": "pbx", "token": "token-to-publish-only", "tenant": "a", "scopes": ["publish"]},
        {"name": "ops", "token": "token-of-operations", "scopes": ["admin"]},
    ]
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def ask(connection: ClientConnection, **request: Any) -> dict[str, Any]:
    await connection.send(json.dumps({"type": "subscribe", **request}))
    return await take(connection)


async def take(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(5):
        message: dict[str, Any] = json.loads(await connection.recv())
    return message


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("no-such-token-here", 401), ("token-to-publish-only", 403)]
)
async def test_results_want_a_token_to_subscribe(token: str | None, status: int) -> None:
    async with serving(access=ACCESS) as served:
        with pytest.raises(InvalidStatus) as refused:
            await connect(served.results, additional_headers=bearer(token) if token else {})
        assert refused.value.response.status_code == status


async def test_a_browser_may_send_it_in_the_address() -> None:
    async with serving(access=ACCESS) as served, connect(served.results + "?token=token-of-tenant-a") as connection:
        assert (await ask(connection))["type"] == "subscribed"


async def test_tenants_see_neither_results_nor_calls_nor_names_of_one_another() -> None:
    async with (
        serving(access=ACCESS) as served,
        connect(served.results, additional_headers=bearer("token-of-tenant-a")) as a,
        connect(served.results, additional_headers=bearer("token-of-tenant-b")) as b,
    ):
        served.publish(*records.call_started("a~c1"), *records.call_started("c1"))
        assert [call["call_id"] for call in (await ask(a))["running"]] == ["c1"]
        assert (await ask(b))["running"] == []
        assert (await ask(b, calls=["c1", "a~c1"], streams=["a~c1/customer"]))["running"] == []
        served.publish(records.level(0.0, call="a~c1"), records.level(0.1, call="c1"), records.level(0.2, call="b~c1"))
        of_a, of_b = await take(a), await take(b)
        assert (of_a["call_id"], of_a["stream"], of_a["start"]) == ("c1", "c1/customer", 0.0)
        assert of_b["start"] == 0.2, "the first that is its own"
        assert "~" not in json.dumps([of_a, of_b])


async def test_the_same_finding_of_two_tenants_is_no_duplicate() -> None:
    async with (
        serving(access=ACCESS) as served,
        connect(served.results, additional_headers=bearer("token-of-tenant-a")) as a,
        connect(served.results, additional_headers=bearer("token-of-tenant-b")) as b,
    ):
        await ask(a)
        await ask(b)
        served.publish(*(records.level(0.0, call=call, arrived_ns=1) for call in ("a~c1", "b~c1", "a~c1")))
        served.publish(records.level(0.1, call="a~c1"))
        first, second = await take(a), await take(a)
        assert (first["start"], second["start"]) == (0.0, 0.1)
        assert (await take(b))["id"] == first["id"]


@pytest.mark.parametrize(("token", "status"), [("", 401), ("token-of-tenant-a", 403), ("token-of-operations", 200)])
async def test_metrics_want_a_token_of_an_administrator(token: str, status: int) -> None:
    async with serving(access=ACCESS) as served:
        assert await asyncio.to_thread(get, served, "/metrics", token) == status


async def test_the_page_itself_and_health_want_none() -> None:
    async with serving(access=ACCESS) as served:
        for path in ("/", "/app.js", "/healthz"):
            assert await asyncio.to_thread(get, served, path, "") == 200


def get(served: Served, path: str, token: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{served.server.port}{path}", headers=bearer(token) if token else {}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
