"""Who gets which message: subscriptions, a bounded queue per subscriber, what is running, and no finding twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from callscope.feature_sets import LLDS
from callscope.mailbox import Mailbox
from sinks.calls import Calls
from sinks.messages import Message, control
from sinks.subscription import Subscription
from sinks.workers import Workers

DUPLICATE_WINDOW: Final = 131_072
"""Messages within which a repeated one is recognised: about a minute of 100 busy legs. A worker that takes over
re-reads less than that."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in a subscriber's queue, between the messages of the old subscription and of the new one."""

    subscription: Subscription
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What `Subscriber.next` hands out to be written.

    Attributes:
        data: UTF-8 JSON.
        message: the message it stands for; None for replies and for the notice of dropped messages.
        is_reply: it answers a request.
    """

    data: bytes
    message: Message | None = None
    is_reply: bool = False


class Subscriber:
    """One connection's subscription and what waits to be sent on it.

    Attributes:
        subscription: None until it asked for something.
    """

    def __init__(self, limit: int, on_ready: Callable[[], None]) -> None:
        """Makes one that follows nothing.

        Args:
            limit: messages that may wait.
            on_ready: called whenever something was put in.
        """
        self.subscription: Subscription | None = None
        self._mailbox: Mailbox[Message | Reply] = Mailbox(limit)
        self._on_ready = on_ready
        self._confirmed = Subscription()
        self._seq = 0

    @property
    def too_slow(self) -> bool:
        """It lost a final message, or will: the connection must end."""
        return self._mailbox.overflowed

    def __len__(self) -> int:
        """How many wait to be sent."""
        return len(self._mailbox)

    def put(self, item: Message | Reply) -> int:
        """Queues an item.

        Returns:
            how many interim messages were dropped to make room, 0 or 1.
        """
        dropped = self._mailbox.put(item, final=isinstance(item, Reply) or item.is_final)
        self._on_ready()
        return dropped

    def next(self, pushed_ns: int) -> Outgoing | None:
        """The next message to write, numbered and stamped.

        Args:
            pushed_ns: now, nanoseconds since the epoch.

        Returns:
            None if nothing waits.
        """
        if dropped := self._mailbox.take_dropped():
            self._seq += 1
            return Outgoing(control("dropped", self._seq, {"count": dropped}))
        if not self._mailbox:
            return None
        item = self._mailbox.take()
        self._seq += 1
        if isinstance(item, Reply):
            self._confirmed = item.subscription
            return Outgoing(control("subscribed", self._seq, item.fields), is_reply=True)
        asked = self._confirmed
        data = item.encode(self._seq, pushed_ns, lld=asked.lld, functionals=asked.functionals)
        return Outgoing(data, item)

    def error(self, code: str, reason: str) -> bytes:
        """The message that says why the connection ends; it is sent ahead of whatever waits."""
        self._seq += 1
        return control("error", self._seq, {"code": code, "message": reason})


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message.

    Attributes:
        duplicate: it was one already seen, and went to nobody.
        dropped: interim messages that subscribers lost to make room.
    """

    duplicate: bool = False
    dropped: int = 0


class Hub:
    """All subscribers, and the state they are told when they join."""

    def __init__(self, queue_messages: int, duplicate_window: int = DUPLICATE_WINDOW) -> None:
        """Starts with no subscriber.

        Args:
            queue_messages: messages that may wait for each subscriber.
            duplicate_window: messages within which a repeated one is recognised.
        """
        self.calls = Calls()
        self.workers = Workers()
        self.subscribers: set[Subscriber] = set()
        self._queue_messages = queue_messages
        self._window = duplicate_window
        self._seen: set[int] = set()
        self._seen_order: deque[int] = deque()

    def join(self, on_ready: Callable[[], None]) -> Subscriber:
        """Adds a subscriber that follows nothing yet.

        Args:
            on_ready: called whenever something waits for it.
        """
        subscriber = Subscriber(self._queue_messages, on_ready)
        self.subscribers.add(subscriber)
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Removes a subscriber and what waits for it."""
        self.subscribers.discard(subscriber)

    def subscribe(self, subscriber: Subscriber, subscription: Subscription, now_ns: int) -> None:
        """Sets what a subscriber follows, in place of what it followed, and queues the answer with the running calls.

        Args:
            subscriber: who asks.
            subscription: for what.
            now_ns: nanoseconds since the epoch; decides which calls count as silent.
        """
        subscriber.subscription = subscription
        fields: dict[str, Any] = {**subscription.as_json(), "running": self.calls.running(now_ns, subscription)}
        if subscription.lld:
            fields["lld_columns"] = LLDS
        if "system" in subscription.kinds:
            fields["shedding"] = self.workers.shedding()
        subscriber.put(Reply(subscription, fields))

    def publish(self, message: Message) -> Delivery:
        """Gives a message to all who want it, unless it is one they had."""
        if self._is_duplicate(message):
            return Delivery(duplicate=True)
        if message.type != "system":
            self.calls.heard(message)
        dropped = 0
        for subscriber in self.subscribers:
            subscription = subscriber.subscription
            if subscription is not None and subscription.wants(message):
                dropped += subscriber.put(message)
        return Delivery(dropped=dropped)

    def _is_duplicate(self, message: Message) -> bool:
        """Ids are kept as 64-bit hashes: among 131,072 a false match has a chance of 1 in 10^14."""
        key = hash((message.tenant, message.id, message.type in ("call", "system") or self.calls.started_ns(message)))
        if key in self._seen:
            return True
        self._seen.add(key)
        self._seen_order.append(key)
        if len(self._seen_order) > self._window:
            self._seen.discard(self._seen_order.popleft())
        return False
