"""The configuration, and the only reader of the environment.

Every setting has a default that runs on one machine. Settings come, later ones winning, from the defaults, a TOML file
(`callscope.toml` in the working directory or the file that CALLSCOPE_CONFIG names) and the environment:
`CALLSCOPE_INGEST__PORT=9000` sets `port` of the section `ingest`.
"""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from callscope.errors import ConfigError
from callscope.streams import NAME
from callscope.topics import DEFAULT_PARTITIONS


class _Section(BaseModel):
    """A section refuses unknown keys: a misspelt setting is an error, not a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSecurity(_Section):
    """How to reach a cluster that asks who you are; passed to every client alike."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = ""
    password: SecretStr = SecretStr("")
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr = SecretStr("")


class Broker(_Section):
    """The embedded Kafka."""

    data_dir: Path = Path(platformdirs.user_data_dir("callscope", appauthor=False)) / "kafka"
    port: int | None = Field(None, ge=1, le=65_535, description="None: 9092, or a free one where that is taken")
    heap: str = Field("512m", pattern=r"^\d+[mg]$")
    optimize: bool | None = Field(
        None,
        description="let Java compile a second time, thoroughly, what runs often: dearer for the first minute or two, "
        "a third cheaper after that. None: where its data is kept",
    )
    mirror: str | None = Field(None, description="base URL of a Maven mirror to fetch the jars from")
    retention_hours: int | None = Field(None, ge=1, description="None: as callscope/topics.py has it")


class Topics(_Section):
    """How the topics are created where they do not exist."""

    partitions: int = Field(
        0, ge=0, le=1_000, description="0: one a core for the embedded broker (2 to 8), 8 on another cluster"
    )
    replication: int = Field(1, ge=1, le=9)


Scope = Literal["publish", "subscribe", "admin"]
Tenant = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$")]
"""Part of the Kafka keys of all that belongs to it; "" where there is but one."""


AudioHookLeg = Annotated[str, StringConstraints(pattern=rf"^({NAME})?$")]


class AudioHookKey(_Section):
    """An API key as it is entered in Genesys Cloud, and whose calls come with it."""

    api_key: SecretStr = Field(min_length=1, max_length=256)
    client_secret: SecretStr | None = Field(
        None, description="Base64, as in Genesys Cloud; handshakes then must be signed with it. None: the key is enough"
    )
    tenant: Tenant = ""

    @field_validator("client_secret")
    @classmethod
    def _is_base64(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            try:
                decoded = base64.b64decode(secret.get_secret_value(), validate=True)
            except ValueError:
                raise ValueError("must be Base64") from None
            if len(decoded) < 16:
                raise ValueError("must be at least 16 bytes long")
        return secret


class AudioHook(_Section):
    """Genesys Cloud's AudioHook Monitor."""

    keys: tuple[AudioHookKey, ...] = ()
    authority: str | None = Field(
        None, description="the public host[:port] that Genesys Cloud connects to, where a proxy changes the Host header"
    )
    external_leg: AudioHookLeg = Field("customer", description='who is outside; "": that channel is not taken')
    internal_leg: AudioHookLeg = Field("agent", description='who is inside; "": that channel is not taken')
    refusal_delay_s: float = Field(0.5, ge=0, le=5, description="how long every refused handshake takes, at least")
    close_timeout_s: float = Field(5.0, gt=0, le=60, description="for the client to close a session it was asked to")

    @property
    def legs(self) -> dict[Literal["external", "internal"], str]:
        """What the channels that are taken are called."""
        legs: dict[Literal["external", "internal"], str] = {}
        if self.external_leg:
            legs["external"] = self.external_leg
        if self.internal_leg:
            legs["internal"] = self.internal_leg
        return legs

    @model_validator(mode="after")
    def _legs_differ(self) -> Self:
        if self.external_leg == self.internal_leg:
            raise ValueError("external_leg and internal_leg must differ")
        return self


class Grpc(_Section):
    """The gateway's gRPC port, on the gateway's host: `VoiceAnalysis` and Webex's media forking."""

    port: int | None = Field(None, ge=0, le=65_535, description="None: off; 0 picks a free one")
    queue_results: int = Field(2_000, ge=10, description="per call; then the oldest interim results go")
    results_timeout_s: float = Field(
        10.0, gt=0, description="after the last audio: no result came for so long, though not all have come"
    )


class Webex(_Section):
    """Webex Contact Center's media forking: whose tokens are good. Without an address any of ours are."""

    datasource_url: str = Field(
        "", description="address the data source was registered with; then its tokens are asked"
    )
    schema_uuid: str = "523e1b7f-4693-47bc-b84e-a7b7a505fb0b"
    issuers: tuple[str, ...] = Field(
        (
            "https://idbroker.webex.com/idb",
            "https://idbroker-eu.webex.com/idb",
            "https://idbroker-b-us.webex.com/idb",
            "https://idbroker-ca.webex.com/idb",
        ),
        description="who may have signed a token; keys are fetched from nowhere else",
    )
    tenant: Tenant = ""
    organisations: tuple[str, ...] = Field((), description="customer_org_id of those served; none named: all")
    reconnect_s: float = Field(
        30.0, ge=0, description="a conversation whose connection broke waits so long for another"
    )


class AccessToken(_Section):
    """A bearer token and what its bearer may do."""

    name: str = Field(min_length=1, max_length=64, description="whose it is, for logs")
    token: SecretStr | None = Field(None, min_length=16, description="the token itself; or, better, its hash:")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="the token's SHA-256, in hexadecimal")
    tenant: Tenant = ""
    scopes: frozenset[Scope] = frozenset({"publish"})

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.token is None) == (self.sha256 is None):
            raise ValueError("give either token or sha256")
        return self


JwtAlgorithm = Literal["HS256", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class Jwt(_Section):
    """Signed tokens: their claims `tenant`, `scope` (words) and `exp` say what they allow and until when."""

    algorithms: tuple[JwtAlgorithm, ...] = Field(min_length=1, description="no others are accepted")
    secret: SecretStr | None = Field(None, min_length=32, description="for HS256; or, for the others:")
    public_key_file: Path | None = Field(None, description="PEM")
    audience: str | None = Field(None, description="must be among the claim `aud`")
    issuer: str | None = Field(None, description="must be the claim `iss`")
    leeway_s: float = Field(5.0, ge=0, le=300, description="how far clocks may be apart")
    longest_s: float = Field(86_400.0, gt=0, description="a token that is good for longer than that is refused")

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        shared = "HS256" in self.algorithms
        if shared and len(self.algorithms) > 1:
            raise ValueError("HS256 and the others cannot be mixed: a public key is no secret")
        if (self.secret is not None) != shared or (self.public_key_file is None) != shared:
            raise ValueError("HS256 needs secret, the others public_key_file, and no more")
        return self


class Access(_Section):
    """Who may come in. With nothing here everybody may do everything, and nothing listens beyond this machine."""

    tokens: tuple[AccessToken, ...] = ()
    jwt: Jwt | None = None


class Tls(_Section):
    """A listener's certificate. Files that change are read again for the next connection."""

    cert_file: Path | None = Field(None, description="PEM, with the chain")
    key_file: Path | None = None
    key_password: SecretStr | None = None

    @model_validator(mode="after")
    def _both_files(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        return self


class Limits(_Section):
    """What one address, and one tenant, may take of the gateway. Rates are kept by reading more slowly."""

    connections_per_address: int = Field(200, ge=1)
    connections_per_tenant: int | None = Field(None, ge=1)
    streams_per_tenant: int | None = Field(None, ge=1)
    messages_per_s: float = Field(5_000.0, gt=0, description="of one connection")
    bytes_per_s: float = Field(64e6, gt=0, description="of one connection")
    tenant_bytes_per_s: float | None = Field(None, gt=0)


class Admission(_Section):
    """When new calls are refused, because the workers are behind; calls that run go on."""

    enabled: bool = True
    refuse_lag_ms: int = Field(1_000, ge=1, description="so far behind live audio, any worker")
    admit_lag_ms: int = Field(250, ge=0, description="and admitted again when none is farther behind than that")
    refuse_after_s: float = Field(2.0, ge=0, description="the lag must have lasted so long")
    admit_after_s: float = Field(3.0, ge=0)
    forget_s: float = Field(
        10.0, gt=0, description="a worker that says nothing for so long is gone, and does not count"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.admit_lag_ms > self.refuse_lag_ms:
            raise ValueError("admit_lag_ms must not be above refuse_lag_ms")
        return self


class Spool(_Section):
    """Where the gateway keeps what it accepted while Kafka is away; docs/operations.md."""

    max_bytes: int = Field(
        1 << 30, ge=0, description="1 GiB is five minutes of 100 legs; 0: no spool, streams are closed instead"
    )
    data_dir: Path = Path(platformdirs.user_data_dir("callscope", appauthor=False)) / "spool"
    after_s: float = Field(1.0, gt=0, le=60, description="Kafka acknowledged nothing of a partition for so long")
    refuse_at: float = Field(0.5, gt=0, le=1, description="share of max_bytes in use from which new calls are refused")
    sync_s: float = Field(1.0, ge=0, description="how often it is made safe from a power cut (fsync)")


LegName = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]


class TwilioAccount(_Section):
    """An account at Twilio, or at a platform that signs as Twilio or Plivo does, which may send."""

    name: str = Field(min_length=1, max_length=64, description="whose it is, for logs")
    secret: SecretStr = Field(min_length=1, description="the auth token (SignalWire: the signing key) it signs with")
    account: str | None = Field(None, description="the account's id; streams of other accounts are then refused")
    tenant: Tenant = ""


class Twilio(_Section):
    """Twilio Media Streams, and the platforms that speak its dialect; docs/protocols/twilio.md."""

    inbound_leg: LegName = "customer"
    outbound_leg: LegName = "agent"
    reorder_window_ms: int = Field(100, ge=0, le=5_000, description="audio that may wait for a missing chunk")
    accounts: tuple[TwilioAccount, ...] = Field(
        (), description="whose signatures let in; then nobody comes in without proof"
    )
    public_url: str | None = Field(
        None, pattern=r"^(wss|ws|https|http)://[^/\s]+", description="the address as the platform was given it"
    )
    trust_forwarded: bool = Field(False, description="take it from the proxy's X-Forwarded-Proto and -Host instead")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.inbound_leg == self.outbound_leg:
            raise ValueError("inbound_leg and outbound_leg: give each track a leg of its own")
        if self.accounts and self.public_url is None and not self.trust_forwarded:
            raise ValueError("signatures cover the address: set public_url to what the platform was given")
        return self


class WebRtc(_Section):
    """WebRTC: offers over HTTP at a port of its own, sound over UDP."""

    port: int | None = Field(None, ge=0, le=65_535, description="None: off; 0: any free one")
    jitter_ms: int = Field(60, ge=0, le=1_000, description="packets behind a hole wait so long for what is missing")
    max_peers: int = Field(100, ge=1)
    connect_timeout_s: float = Field(15.0, gt=0, description="from the answer to the first secure packet")
    addresses: tuple[str, ...] = Field(
        (), description="of this machine, for the sound; none: loopback if the gateway listens there, else all"
    )
    ice_servers: tuple[str, ...] = Field((), description='one STUN and one TURN server: "turn:turn.example.com:3478"')
    turn_username: str = ""
    turn_credential: SecretStr = SecretStr("")


class Ingest(_Section):
    """The gateway."""

    host: str = "127.0.0.1"
    port: int = Field(7070, ge=0, le=65_535)
    audiosocket_port: int | None = Field(None, ge=0, le=65_535, description="Asterisk's AudioSocket; None: not served")
    max_streams: int = Field(500, ge=1)
    max_message_bytes: int = Field(1 << 20, ge=1_024)
    hello_timeout_s: float = Field(10.0, gt=0)
    idle_timeout_s: float = Field(30.0, gt=0)
    resume_s: float = Field(30.0, ge=0, description="how long a stream waits for a client that was cut off")
    catch_up_speed: float = Field(
        8.0, ge=1, description="a client that came back may send so much faster than real time"
    )
    ack_interval_s: float = Field(0.25, gt=0, description="how often a client hears what is safe")
    publish_timeout_s: float = Field(10.0, gt=0, description="Kafka takes no audio for this long: the stream is closed")
    allow_unauthenticated: bool = Field(
        False, description="listen beyond this machine although anyone who reaches the port may send audio"
    )
    origins: tuple[str, ...] = Field((), description="pages elsewhere that may send audio: https://host[:port]")
    tls: Tls = Tls()
    limits: Limits = Limits()
    admission: Admission = Admission()
    spool: Spool = Spool()
    twilio: Twilio = Twilio()
    audiohook: AudioHook = AudioHook()
    grpc: Grpc = Grpc()
    webex: Webex = Webex()
    webrtc: WebRtc = WebRtc()


DetectorName = Literal["silero", "webrtc", "energy"]


class Detect(_Section):
    """Voice-activity detection and segments. Times are media time."""

    detector: DetectorName = "silero"
    leg_detectors: dict[str, DetectorName] = Field(
        default_factory=dict, description='legs with another detector: {"agent": "webrtc"}'
    )
    on_threshold: float = Field(0.5, gt=0, le=1, description="a frame of at least this probability is voiced")
    off_threshold: float = Field(0.35, gt=0, le=1, description="below it a frame is silence; between them, doubtful")
    aggressiveness: int = Field(2, ge=0, le=3, description="WebRTC: how readily it calls a frame non-speech")
    webrtc_hop_ms: Literal[10, 20, 30] = 20
    energy_threshold_dbfs: float = Field(-40.0, ge=-100, le=0, description="level of speech on a quiet line")
    energy_margin_db: float = Field(8.0, ge=0, le=60, description="speech is so far above the line's noise at least")
    onset_ms: int = Field(60, ge=20, description="minimum speech: this much starts it")
    min_silence_ms: int = Field(160, ge=20, description="minimum silence: this much ends speech")
    hangover_ms: int = Field(240, ge=0, description="audio after the last voiced frame that a segment includes")
    preroll_ms: int = Field(200, ge=0, description="audio before the onset that a segment includes")
    max_pause_ms: int = Field(700, ge=100, description="a longer pause ends the segment")
    max_segment_s: float = Field(30.0, ge=1)
    max_gap_ms: int = Field(200, ge=0, description="a longer hole in the audio ends speech and segment")
    level_interval_ms: int = Field(100, ge=20)

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> Self:
        if self.off_threshold > self.on_threshold:
            raise ValueError("off_threshold must not be above on_threshold")
        return self


class Extract(_Section):
    """Features."""

    window_s: float = Field(5.0, gt=0)
    hop_ms: int = Field(100, ge=20)
    first_window_ms: int = Field(500, ge=100)
    functionals_every: int = Field(1, ge=0, description="every n-th window has functionals; 0: only utterances have")
    warm_engines: int = Field(8, ge=0, description="built before the first call, so that no speech waits for one")


class Infer(_Section):
    """Models, and on which legs they may run. EU guidelines on prohibited AI practices name call-centre agents."""

    enabled: tuple[str, ...] = Field(
        ("arousal", "voice-quality"), description='which shipped models run; there are also "stress" and "emotion"'
    )
    models: tuple[Path, ...] = Field((), description="folders of further models; all of them run")
    emotion_legs: tuple[str, ...] = Field(
        ("customer", "caller"),
        description="legs on which emotion, stress and arousal may be inferred; never an employee's by default",
    )
    health_legs: tuple[str, ...] = Field(
        ("customer", "caller"),
        description="legs on which models that touch on health may run; never an employee's by default",
    )
    max_batch: int = Field(32, ge=1, le=4_096, description="windows a model is given at once")


class Overload(_Section):
    """When a worker that is behind live audio leaves work out: first inference, then features, never detection."""

    shed: bool = Field(True, description="False: nothing is ever left out, however late it comes")
    lag_ms: int = Field(150, ge=1, description="so far behind, for rise_s, and one stage more is left out")
    calm_ms: int = Field(
        100, ge=0, description="in the mean not farther behind than that, for fall_s: one is taken up again"
    )
    rise_s: float = Field(0.3, ge=0, description="or at once, where that level was left less than fall_s ago")
    fall_s: float = Field(3.0, ge=0)
    live_s: float = Field(
        60.0, gt=0, description="audio older than that, of an import or after an outage, sheds nothing: nobody waits"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.calm_ms > self.lag_ms:
            raise ValueError("calm_ms must not be above lag_ms")
        return self


class Processors(_Section):
    """The worker."""

    group: str = "callscope"
    member: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="this worker's name in its group, which no other has; started again, it has its partitions back "
        "without a rebalance",
    )
    session_timeout_s: float = Field(
        6.0, ge=1, le=300, description="a worker that is not heard of for so long has lost its partitions to others"
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65_535, description="Prometheus, /livez and /readyz, on loopback; None: not served"
    )
    metrics_host: str = "127.0.0.1"
    idle_stream_s: float = Field(600.0, gt=0, description="state of a stream that fell silent without an end")
    detect: Detect = Detect()
    extract: Extract = Extract()
    infer: Infer = Infer()
    overload: Overload = Overload()


class Microphone(_Section):
    """Where the page "Try your microphone" sends to, as browsers see it; an empty one is not offered."""

    stream: str = Field("", pattern=r"^(wss?://[^\s;,'\"]+)?$", description="ws://127.0.0.1:7070/v1/stream")
    webrtc: str = Field("", pattern=r"^(https?://[^\s;,'\"]+)?$", description="http://127.0.0.1:7072/v1/webrtc")


class Sink(_Section):
    """The results' WebSocket server and the dashboard."""

    host: str = "127.0.0.1"
    port: int = Field(7071, ge=0, le=65_535)
    allow_unauthenticated: bool = Field(False, description="listen beyond this machine though anyone may then read")
    origins: tuple[str, ...] = Field((), description="further addresses browsers may come by: https://host[:port]")
    max_subscribers: int = Field(200, ge=1)
    tls: Tls = Tls()
    microphone: Microphone = Microphone()
    queue_messages: int = Field(2_000, ge=10, description="per subscriber; then the oldest interim results go")
    resume_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="how far back subscribers get what they missed, and results are known again after a restart",
    )


class Settings(BaseSettings):
    """All of it; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="CALLSCOPE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    token: SecretStr | None = Field(None, description="what `callscope send`, `watch` and `simulate` show to be let in")
    kafka: str | None = Field(None, description="bootstrap servers; None runs the embedded broker")
    kafka_security: KafkaSecurity = KafkaSecurity()
    kafka_options: dict[str, str] = Field(default_factory=dict, description="librdkafka properties, as they are")
    broker: Broker = Broker()
    topics: Topics = Topics()
    access: Access = Access()
    ingest: Ingest = Ingest()
    processors: Processors = Processors()
    sink: Sink = Sink()
    watchdog_s: float = Field(
        60.0, ge=0, description="a program in which something stands still for so long ends itself; 0: never"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        file = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, env_settings, file


def config_file() -> Path:
    """The TOML file that is read if it exists."""
    return Path(os.environ.get("CALLSCOPE_CONFIG", "callscope.toml"))


def load(**overrides: object) -> Settings:
    """The settings in force.

    Args:
        **overrides: values that win over file and environment.

    Raises:
        ConfigError: naming every setting that is wrong, and how.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them, with a better message
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise ConfigError(
            "The configuration is wrong (defaults, then "
            f"{config_file()}, then CALLSCOPE_... in the environment):\n" + "\n".join(lines)
        ) from error
    return settings if settings.topics.partitions else _with_partitions(settings)


def _with_partitions(settings: Settings) -> Settings:
    """Every partition costs each worker a request a batch: a machine alone has no more of them than it has use for."""
    number = DEFAULT_PARTITIONS if settings.kafka else min(DEFAULT_PARTITIONS, max(2, cores()))
    return settings.model_copy(update={"topics": settings.topics.model_copy(update={"partitions": number})})


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load()


def child_environment(**settings_by_name: str) -> dict[str, str]:
    """This process' environment with settings added, for a child process.

    Args:
        **settings_by_name: for example `kafka="127.0.0.1:9092"`; becomes CALLSCOPE_KAFKA.
    """
    ours = {f"CALLSCOPE_{name.upper()}": value for name, value in settings_by_name.items()}
    # numpy's linear algebra keeps a thread a core that waits by spinning; a process of ours has its own core already.
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, **ours}
