"""What the server gives the page "Try your microphone", and nobody else."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection, HTTPResponse

import pytest
from pydantic import ValidationError

from callscope.config import Microphone
from tests.sinks.serving import Served, serving

PLACES = {"stream": "wss://gateway.example:7070/v1/stream", "webrtc": "https://gateway.example:7072/v1/webrtc"}


def get(served: Served, path: str) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", served.server.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response, text


async def test_the_page_may_use_the_microphone_and_connect_to_the_gateway_and_other_pages_may_not() -> None:
    async with serving(microphone=PLACES) as served:
        page, _ = await asyncio.to_thread(get, served, "/microphone.html")
        other, _ = await asyncio.to_thread(get, served, "/")
        _, places = await asyncio.to_thread(get, served, "/microphone.json")
    assert json.loads(places) == PLACES
    assert page.headers.get_all("Permissions-Policy") == ["camera=(), geolocation=(), microphone=(self)"]
    policy = page.headers["Content-Security-Policy"]
    assert " wss://gateway.example:7070 https://gateway.example:7072;" in policy
    assert other.headers.get_all("Permissions-Policy") == ["camera=(), geolocation=(), microphone=()"]
    assert "gateway.example" not in other.headers["Content-Security-Policy"]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "ws://a; script-src *", "ws://a b", "gateway:7070"])
def test_an_address_that_could_change_the_policy_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        Microphone(stream=address)
