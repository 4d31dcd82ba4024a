"""The names of calls and streams, which all three programs use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

NAME: Final = r"[A-Za-z0-9._:@+-]{1,128}"
"""Pattern of a client's call id and of a leg: no slash, which parts them, and no tilde, which parts off the tenant."""
_NAME: Final = re.compile(NAME)


@dataclass(frozen=True, slots=True)
class StreamId:
    """One leg of one call."""

    call_id: str
    leg: str

    def __str__(self) -> str:
        """`<call id>/<leg>`: the Kafka key."""
        return f"{self.call_id}/{self.leg}"


def is_name(text: str) -> bool:
    """Whether a client may call a call or a leg so."""
    return _NAME.fullmatch(text) is not None


def name_of(text: str) -> str:
    """A name as near as can be to what a platform calls a call: what is not allowed in it becomes "-"; 128 characters.

    Args:
        text: not empty.
    """
    return re.sub(r"[^A-Za-z0-9._:@+-]", "-", text)[:128]


def topic_call_id(tenant: str, call_id: str) -> str:
    """What a tenant's call is called on the topics: `<tenant>~<call id>`; the call id where there is no tenant."""
    return f"{tenant}~{call_id}" if tenant else call_id


def tenant_and_call_id(topic_call_id: str) -> tuple[str, str]:
    """The tenant, "" if there is none, and what it calls its call."""
    tenant, separator, call_id = topic_call_id.rpartition("~")
    return (tenant, call_id) if separator else ("", topic_call_id)
