"""Every exception Callscope raises on purpose, in one tree.

::

    CallscopeError
    ├── ConfigError                 the configuration is wrong or contradicts itself
    ├── BrokerError                 the embedded Kafka cannot be had
    │   ├── JavaMissing
    │   ├── DownloadFailed          (retriable) no network, or the mirror does not answer
    │   ├── ChecksumMismatch        the file that came is not the file that was listed
    │   ├── PortTaken
    │   ├── DiskFull
    │   ├── DataFromAnotherVersion  the data directory was written by another Kafka
    │   ├── DataInUse               another broker runs on the same data directory
    │   └── BrokerDied              it started and ended; carries the end of its log
    ├── KafkaUnreachable            (retriable) no broker answers at the configured address
    ├── IngestError                 something a client sent, with the close code it gets
    │   ├── BadHello                4400
    │   ├── Unauthorized            4401, HTTP 401
    │   │   ├── BadSignature        a signed request that is not signed well
    │   │   └── NonceCacheFull      (retriable) more signed requests than can be told apart from repeated ones
    │   ├── Forbidden               4403, HTTP 403
    │   ├── BadAudio                4415
    │   ├── BadMessage              1003
    │   ├── BadOffer                4400, over HTTP 400: a WebRTC offer that cannot be answered
    │   ├── StreamExists            4409
    │   ├── UnknownSession          4410
    │   ├── TooManyFromOne          1008, HTTP 429
    │   ├── TooManyStreams          1008
    │   ├── TooManyMessages         1008
    │   ├── Overloaded              1013 (retriable) the workers are behind; no new calls now
    │   ├── TimedOut                4408
    │   ├── SourceFailed            4424, the source itself reported that it failed
    │   ├── TooSlow                 1013, a client that does not read its results
    │   ├── ResultsLate             1011, all audio is safe, but its results did not all come
    │   ├── GatewayStopping         1001 (retriable)
    │   ├── KeysUnavailable         1013 (retriable) the keys that a token must be checked with cannot be had
    │   ├── Replaced                4409, the same conversation came over another connection
    │   └── NotPublished            1013 (retriable) Kafka does not take the audio now
    ├── SubscribeError              4400, a subscriber's request that cannot be served
    ├── ModelError                  a model folder that cannot be used, with the reason
    ├── FeatureEngineError          the feature engine cannot run here
    ├── BadExport                   a folder that is no export, or cannot be written or brought back
    ├── BadEvaluation               labels or settings that a run cannot be scored by
    └── BadReplay                   nothing to replay, or a run that is not there, cannot go on, or failed
"""

from typing import ClassVar


class CallscopeError(Exception):
    """Base of all. `str(error)` says what happened, to what, and what to do about it."""

    retriable: ClassVar[bool] = False


class ConfigError(CallscopeError):
    """The configuration is wrong or contradicts itself."""


class BrokerError(CallscopeError):
    """The embedded Kafka cannot be had."""


class JavaMissing(BrokerError):
    """No usable Java runtime."""


class DownloadFailed(BrokerError):
    """A file could not be fetched; trying again later may help."""

    retriable = True


class ChecksumMismatch(BrokerError):
    """A fetched file is not the one that was listed; it has been deleted."""


class PortTaken(BrokerError):
    """A port that was asked for by name is in use."""


class DiskFull(BrokerError):
    """Not enough room for the jars or for Kafka's data."""


class DataFromAnotherVersion(BrokerError):
    """The data directory was written by another version of Kafka."""


class DataInUse(BrokerError):
    """Another broker runs on the same data directory."""


class BrokerDied(BrokerError):
    """The broker ended by itself; the message carries the end of its log."""


class KafkaUnreachable(CallscopeError):
    """No broker answers at the configured address."""

    retriable = True


class IngestError(CallscopeError):
    """A client's fault (or a refusal it must be told of), with the WebSocket close code it gets.

    Attributes:
        close_code: WebSocket close code, RFC 6455 section 7.4 (4000 to 4999 are ours).
    """

    close_code: ClassVar[int] = 4400


class BadHello(IngestError):
    """The opening message is missing, is not JSON, or says something impossible."""

    close_code = 4400


class Unauthorized(IngestError):
    """No token came, or one that is not known, not valid yet, or expired. The sink answers with it too."""

    close_code = 4401


class BadSignature(Unauthorized):
    """A request whose signature is missing, malformed, too old, used before, or not good."""


class NonceCacheFull(Unauthorized):
    """So many signed requests came that a repeated one could not be told from a new one."""

    retriable = True


class Forbidden(IngestError):
    """The token is good, but not for this."""

    close_code = 4403


class BadAudio(IngestError):
    """Audio of a wrong size for its encoding and channels, or a message too large."""

    close_code = 4415


class BadMessage(IngestError):
    """A text message where audio belongs, or the other way round."""

    close_code = 1003


class BadOffer(IngestError):
    """A WebRTC offer, its address or a fragment of it that cannot be answered."""

    close_code = 4400


class StreamExists(IngestError):
    """A stream with this id is being received already."""

    close_code = 4409


class UnknownSession(IngestError):
    """No stream waits for a client with this session token."""

    close_code = 4410


class TooManyFromOne(IngestError):
    """One address or tenant has as many connections or streams as it may."""

    close_code = 1008


class TooManyStreams(IngestError):
    """The gateway's limit of concurrent streams is reached."""

    close_code = 1008


class TooManyMessages(IngestError):
    """Messages other than audio come faster than a client of the protocol has reason to send them."""

    close_code = 1008


class Overloaded(IngestError):
    """The workers are so far behind that another call would make it worse; those that run go on."""

    close_code = 1013
    retriable = True


class TimedOut(IngestError):
    """Nothing came from the client for too long, or it does not read what it is sent."""

    close_code = 4408


class SourceFailed(IngestError):
    """The source reported an error of its own, and sends nothing more."""

    close_code = 4424


class TooSlow(IngestError):
    """A client reads its results so much slower than they come that final ones would be lost."""

    close_code = 1013


class ResultsLate(IngestError):
    """All audio is safe in Kafka, but the last results of it did not come in time."""

    close_code = 1011


class GatewayStopping(IngestError):
    """The gateway shuts down; what had come was published."""

    close_code = 1001
    retriable = True


class KeysUnavailable(IngestError):
    """Whether a token is good cannot be told now, because its issuer's keys cannot be fetched."""

    close_code = 1013
    retriable = True


class Replaced(IngestError):
    """The source came back over another connection, which goes on with its streams."""

    close_code = 4409


class NotPublished(IngestError):
    """Kafka does not take the audio at the moment; what was not acknowledged must be sent again."""

    close_code = 1013
    retriable = True


class SubscribeError(CallscopeError):
    """A subscriber asked for something that cannot be served."""

    close_code: ClassVar[int] = 4400


class ModelError(CallscopeError):
    """A model folder that cannot be used, with the reason."""


class FeatureEngineError(CallscopeError):
    """The feature engine cannot run here, or failed on a stream."""


class BadExport(CallscopeError):
    """A folder that is no export, or cannot be written or brought back."""


class BadEvaluation(CallscopeError):
    """Labels, settings or a run that cannot be scored."""


class BadReplay(CallscopeError):
    """There is nothing to replay, a run is not there or cannot go on, or a worker of it failed."""
