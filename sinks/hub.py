"""Who gets which message: subscriptions, a bounded queue per subscriber, what is running, and no finding twice.

A subscriber that comes back says up to where it has each partition. What it missed is read once more, by another reader
beside the one that brings what is new, and for each partition there is one seam: records before the hub's position come
to it from that other reader (`bring_back`), those from there on as they come to all (`publish`). Both stand in one
event loop, so nothing falls between and nothing comes from both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from callscope.feature_sets import LLDS
from callscope.mailbox import Mailbox
from sinks.calls import Calls
from sinks.memory import FINALS, Finding, Memory, Place
from sinks.messages import Message, control
from sinks.subscription import Subscription
from sinks.workers import Workers


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in a subscriber's queue, between the messages of the old subscription and of the new one.

    Attributes:
        subscription: the new one; None for a word on where the subscriber is.
        fields: what it says.
    """

    subscription: Subscription | None
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resumption:
    """From where a subscriber gets what it missed.

    Attributes:
        since: the first record of each partition that it does not have.
        too_old: partitions of which it missed more than that, which is not to be had any more.
    """

    since: Mapping[Place, int] = field(default_factory=dict)
    too_old: frozenset[Place] = frozenset()


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
        behind: partitions of which what it missed is still being brought → the next record it does not have.
    """

    def __init__(self, limit: int, on_ready: Callable[[], None]) -> None:
        """Makes one that follows nothing.

        Args:
            limit: messages that may wait.
            on_ready: called whenever something was put in.
        """
        self.subscription: Subscription | None = None
        self.behind: dict[Place, int] = {}
        self.has_up_to: dict[Place, int] = {}
        """Partitions of which it has more than the hub: what comes before this record is not for it."""
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
        if isinstance(item, Reply) and item.subscription is None:
            return Outgoing(control("position", self._seq, item.fields))
        if isinstance(item, Reply):
            self._confirmed = item.subscription or self._confirmed
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

    def __init__(self, queue_messages: int, remembered: int = FINALS) -> None:
        """Starts with no subscriber.

        Args:
            queue_messages: messages that may wait for each subscriber.
            remembered: finals among which a repeated one is recognised.
        """
        self.calls = Calls()
        self.workers = Workers()
        self.memory = Memory(remembered)
        self.subscribers: set[Subscriber] = set()
        self.positions: dict[Place, int] = {}
        """The next record of each partition that is to be published."""
        self._queue_messages = queue_messages

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

    def subscribe(
        self,
        subscriber: Subscriber,
        subscription: Subscription,
        now_ns: int,
        resumption: Resumption | None = None,
    ) -> None:
        """Sets what a subscriber follows, in place of what it followed, and queues the answer with the running calls.

        Args:
            subscriber: who asks.
            subscription: for what.
            now_ns: nanoseconds since the epoch; decides which calls count as silent.
            resumption: from where, of one that comes back; where `subscriber.behind` then is not empty, `bring_back`
                is to bring what it missed.
        """
        subscriber.subscription = subscription
        since = {} if resumption is None else resumption.since
        subscriber.behind = {place: at for place, at in since.items() if at < self.positions.get(place, 0)}
        subscriber.has_up_to = {place: at for place, at in since.items() if at > self.positions.get(place, 0)}
        fields: dict[str, Any] = {**subscription.as_json(), "running": self.calls.running(now_ns, subscription)}
        if subscription.lld:
            fields["lld_columns"] = LLDS
        if "system" in subscription.kinds:
            fields["shedding"] = self.workers.shedding()
        if resumption is not None:
            fields["at"] = self._at(subscriber)
            fields["too_old"] = [f"{type_}/{partition}" for type_, partition in sorted(resumption.too_old)]
        subscriber.put(Reply(subscription, fields))

    def publish(self, message: Message) -> Delivery:
        """Gives a message to all who want it, unless it is one they had."""
        partition, offset = message.at or (0, 0)
        is_news = self.memory.is_news(message, partition, offset)
        if not is_news:
            return Delivery(duplicate=True)
        if message.type != "system":
            self.calls.heard(message)
        dropped = 0
        for subscriber in self.subscribers:
            subscription = subscriber.subscription
            if subscription is None or not subscription.wants(message):
                continue
            if (subscriber.behind or subscriber.has_up_to) and message.at is not None:
                place = message.type, partition
                if place in subscriber.behind or offset < subscriber.has_up_to.get(place, 0):
                    continue
            dropped += subscriber.put(message)
        return Delivery(dropped=dropped)

    def passed(self, place: Place, offset: int) -> None:
        """A record has been published, or is not for subscribers; the next one is the next to come."""
        self.positions[place] = offset + 1

    def expects(self, subscriber: Subscriber, place: Place, offset: int, finding: Finding) -> bool:
        """Whether a record that is read once more is one that the subscriber missed: a final, at its first place."""
        return (
            subscriber.behind.get(place, offset + 1) <= offset < self.positions.get(place, 0)
            and finding.is_final
            and self.memory.is_first(finding, offset)
        )

    def bring_back(self, subscriber: Subscriber, place: Place, offset: int, message: Message | None) -> None:
        """Takes a record that is read once more for a subscriber that is behind, and joins it where that is due.

        Args:
            subscriber: for whom.
            place: the partition.
            offset: the record's.
            message: what it says; None: it is not one that `expects` asked for.
        """
        if message is not None and subscriber.subscription is not None and subscriber.subscription.wants(message):
            subscriber.put(message)
        self.brought_up_to(subscriber, place, offset + 1)  # beyond the seam it will be published, to this one too

    def brought_up_to(self, subscriber: Subscriber, place: Place, offset: int) -> None:
        """There is nothing before this offset that was not brought; joins the subscriber where that is the seam."""
        if place in subscriber.behind:
            subscriber.behind[place] = max(offset, subscriber.behind[place])
            if subscriber.behind[place] >= self.positions.get(place, 0):
                del subscriber.behind[place]

    def tell_positions(self) -> None:
        """Tells subscribers that may come back where they are, so that quiet partitions need not be read again."""
        for subscriber in self.subscribers:
            subscription = subscriber.subscription
            if subscription is not None and subscription.resume is not None and 2 * len(subscriber) < self.room:
                subscriber.put(Reply(None, {"at": self._at(subscriber)}))

    @property
    def room(self) -> int:
        """Messages that may wait for each subscriber."""
        return self._queue_messages

    def _at(self, subscriber: Subscriber) -> dict[str, list[int | None]]:
        """By type of message and partition: the next record that a subscriber will get, behind what waits for it."""
        at: dict[str, list[int | None]] = {}
        for place in sorted(self.positions):
            type_, partition = place
            of_type = at.setdefault(type_, [])
            of_type += [None] * (partition + 1 - len(of_type))
            seam = max(self.positions[place], subscriber.has_up_to.get(place, 0))
            of_type[partition] = subscriber.behind.get(place, seam)
        return at

    def places_of(self, subscription: Subscription) -> Iterator[Place]:
        """The partitions that hold what a subscription is about."""
        partitions = 1 + max((partition for _, partition in self.positions), default=-1)
        wanted = subscription.partitions(partitions)
        return (
            place
            for place in self.positions
            if place[0] in subscription.kinds and (wanted is None or place[1] in wanted)
        )
