"""What a subscriber asks for, read from its message and matched against messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from callscope.errors import SubscribeError
from callscope.streams import topic_call_id
from callscope.topics import partition_of
from sinks.messages import TYPES, Message

MAX_NAMED: Final = 1_000
"""Calls, and likewise streams, that one subscription may name."""
_KEYS: Final = frozenset({"type", "calls", "streams", "kinds", "lld", "functionals", "resume"})


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which messages, and how much of them.

    Attributes:
        calls: ids of calls, all of whose legs are wanted; None with `streams` None: every call.
        streams: `<call id>/<leg>`, in addition to `calls`.
        kinds: types of messages, some of `sinks.messages.TYPES`.
        lld: with low-level descriptors.
        functionals: with the functionals of utterances.
        tenant: of whose calls; decided by the subscriber's token, never by what it asks.
        resume: what the subscriber has already: by type of message, for each partition the first offset that it does
            not have, None where it knows none. None: it does not come back, and will not.
    """

    calls: frozenset[str] | None = None
    streams: frozenset[str] | None = None
    kinds: frozenset[str] = frozenset(TYPES)
    lld: bool = False
    functionals: bool = False
    tenant: str = ""
    resume: Mapping[str, Sequence[int | None]] | None = None

    def partitions(self, number: int) -> frozenset[int] | None:
        """Which of so many partitions hold the calls it follows; None: any may."""
        if self.calls is None and self.streams is None:
            return None
        calls = {*(self.calls or ()), *(stream.rpartition("/")[0] for stream in self.streams or ())}
        return frozenset(partition_of(topic_call_id(self.tenant, call), number) for call in calls)

    def wants(self, message: Message) -> bool:
        """Whether a message belongs to it. Events about a whole call go to whoever follows one of its streams.

        What is about no call ("system") goes to all who want such messages, of any tenant: it names none.
        """
        if message.type == "system":
            return message.type in self.kinds
        if message.tenant != self.tenant or message.type not in self.kinds:
            return False
        return self.wants_stream(message.call_id, message.leg)

    def wants_stream(self, call_id: str, leg: str) -> bool:
        """Whether it follows a leg, or, where `leg` is "", anything of the call."""
        if self.calls is None and self.streams is None:
            return True
        if self.calls is not None and call_id in self.calls:
            return True
        if self.streams is None:
            return False
        if leg:
            return f"{call_id}/{leg}" in self.streams
        return any(stream.rpartition("/")[0] == call_id for stream in self.streams)

    def as_json(self) -> dict[str, Any]:
        """What the server confirms."""
        return {
            "calls": None if self.calls is None else sorted(self.calls),
            "streams": None if self.streams is None else sorted(self.streams),
            "kinds": [kind for kind in TYPES if kind in self.kinds],
            "lld": self.lld,
            "functionals": self.functionals,
        }


def read_subscription(text: str | bytes, tenant: str = "") -> Subscription:
    """Reads a subscriber's message.

    Args:
        text: `{"type": "subscribe", "calls": [...], "streams": [...], "kinds": [...], "lld": false,
            "functionals": false, "resume": {...}}`; all but `type` may be left out, or null.
        tenant: the subscriber's.

    Raises:
        SubscribeError: it is something else; the message says what is wrong with it.
    """
    if isinstance(text, bytes):
        raise SubscribeError("A binary message. Send JSON as a text message.")
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SubscribeError(f"Not JSON: {error}.") from error
    if not isinstance(request, dict) or request.get("type") != "subscribe":
        raise SubscribeError('Not a request. The only one there is: {"type": "subscribe", ...}.')
    unknown = sorted(request.keys() - _KEYS)
    if unknown:
        raise SubscribeError(f"Unknown field {unknown[0][:40]!r}. Known are {', '.join(sorted(_KEYS))}.")
    kinds = _names(request, "kinds")
    wrong = sorted((kinds or frozenset()) - set(TYPES))
    if wrong:
        raise SubscribeError(f"Unknown kind {wrong[0][:40]!r}. Known are {', '.join(TYPES)}.")
    return Subscription(
        calls=_names(request, "calls"),
        streams=_names(request, "streams"),
        kinds=frozenset(TYPES) if kinds is None else kinds,
        lld=_flag(request, "lld"),
        functionals=_flag(request, "functionals"),
        tenant=tenant,
        resume=_positions(request.get("resume")),
    )


def _positions(value: object) -> Mapping[str, Sequence[int | None]] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not value.keys() <= set(TYPES):
        raise SubscribeError(f"'resume' must be what \"at\" was: offsets by {', '.join(TYPES)}.")
    for offsets in value.values():
        if not isinstance(offsets, list) or len(offsets) > MAX_NAMED:
            raise SubscribeError("'resume' must have a list of offsets for each type, one a partition.")
        for offset in offsets:
            if offset is not None and (type(offset) is not int or not 0 <= offset < 2**63):
                raise SubscribeError("'resume' must name offsets: whole numbers, or null where none is known.")
    return value


def _names(request: Mapping[str, object], key: str) -> frozenset[str] | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise SubscribeError(f"{key!r} must be a list of strings.")
    if len(value) > MAX_NAMED:
        raise SubscribeError(f"{key!r} names {len(value)}; at most {MAX_NAMED} are allowed. Leave it out for all.")
    return frozenset(value)


def _flag(request: Mapping[str, object], key: str) -> bool:
    value = request.get(key)
    if value is not None and not isinstance(value, bool):
        raise SubscribeError(f"{key!r} must be true or false.")
    return bool(value)
