"""The gRPC port: the services that audio comes in by, and beside them health and reflection."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from callscope.config import Ingest
from callscope.errors import ConfigError
from ingest.gateways.analysis import Analysis
from ingest.gateways.gate import Gate, Listener
from ingest.gateways.grpc_calls import GrpcCalls
from ingest.gateways.grpc_limits import CallLimits
from ingest.gateways.grpc_tls import server_credentials
from ingest.gateways.webex import MediaForking
from ingest.results import ResultsReader
from schemas.v1 import analysis_pb2
from schemas.v1.analysis_pb2_grpc import add_VoiceAnalysisServicer_to_server
from schemas.webex import conversationaudioforking_pb2
from schemas.webex.conversationaudioforking_pb2_grpc import add_ConversationAudioServicer_to_server

ANALYSIS: Final = analysis_pb2.DESCRIPTOR.services_by_name["VoiceAnalysis"].full_name
WEBEX: Final = conversationaudioforking_pb2.DESCRIPTOR.services_by_name["ConversationAudio"].full_name
WEBEX_HEALTH: Final = "com.cisco.wcc.ccai.v1.Health"
"""Where Webex' readiness probes ask; its messages are those of `grpc.health.v1.Health`."""

_WINDOW_BYTES: Final = 64 * 1024
_METADATA_BYTES: Final = 16 * 1024
_KEEPALIVE_S: Final = 30
_KEEPALIVE_TIMEOUT_S: Final = 10
_SHORTEST_PING_INTERVAL_S: Final = 10
_CONNECTION_IDLE_S: Final = 300
_HEALTH_INTERVAL_S: Final = 1.0
_ENDING_S: Final = 15.0
_STATUS_S: Final = 1.0


def options(settings: Ingest) -> list[tuple[str, int]]:
    """What gRPC is told, so that everything a peer can make it hold is bounded."""
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),  # audio a client may send before it is read
        ("grpc.http2.bdp_probe", 0),  # or the window would grow to megabytes
        ("grpc.server_handshake_timeout_ms", int(settings.hello_timeout_s * 1_000)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1_000),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_S * 1_000),
        ("grpc.http2.min_ping_interval_without_data_ms", _SHORTEST_PING_INTERVAL_S * 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_idle_ms", _CONNECTION_IDLE_S * 1_000),
        ("grpc.so_reuseport", 0),  # or two gateways would share a port without a word
    ]


class GrpcListener:
    """The open port."""

    def __init__(self, server: grpc.aio.Server, address: str, port: int, parts: _Parts) -> None:
        self.server = server
        self.port = port
        self._address = address
        self._parts = parts
        self._watching = asyncio.create_task(parts.watch())

    @property
    def address(self) -> str:
        """Where it can be reached."""
        return self._address

    async def close(self) -> None:
        """End every call with UNAVAILABLE, and return when all their streams have been ended."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._parts.health.enter_graceful_shutdown()
        self._parts.calls.stopping.set()
        await self._parts.calls.finished(_ENDING_S)
        await self._parts.forking.close()
        await self.server.stop(_STATUS_S)
        await self._parts.reader.stop()


class _Parts:
    def __init__(self, gate: Gate) -> None:
        self.calls = GrpcCalls(CallLimits(gate.settings.ingest.limits))
        self.reader = ResultsReader(gate.settings)
        self.analysis = Analysis(gate, self.calls, self.reader)
        self.forking = MediaForking(gate, self.calls)
        self.health: Any = health.aio.HealthServicer()

    async def watch(self) -> None:
        """Keep the health service's word true: results can be had only while they are read."""
        while True:
            serving = health_pb2.HealthCheckResponse.SERVING
            alive = serving if self.reader.is_alive() else health_pb2.HealthCheckResponse.NOT_SERVING
            for service, status in (("", serving), (WEBEX, serving), (ANALYSIS, alive)):
                await self.health.set(service, status)
            await asyncio.sleep(_HEALTH_INTERVAL_S)


async def listen(gate: Gate) -> Listener | None:
    """Open the port and serve until the listener is closed; None where no port is configured.

    Raises:
        ConfigError: the port cannot be had.
        KafkaUnreachable: the result topics cannot be read.
    """
    settings = gate.settings.ingest
    if settings.grpc.port is None:
        return None
    parts = _Parts(gate)
    server = grpc.aio.server(options=options(settings), maximum_concurrent_rpcs=2 * settings.max_streams)
    add_VoiceAnalysisServicer_to_server(parts.analysis, server)
    add_ConversationAudioServicer_to_server(parts.forking, server)
    add_HealthServicer_to_server(parts.health, server)
    server.add_generic_rpc_handlers((_webex_health(parts.health),))
    reflection.enable_server_reflection((ANALYSIS, WEBEX, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    credentials = server_credentials(settings.tls)
    try:
        at = f"{host}:{settings.grpc.port}"
        port = server.add_insecure_port(at) if credentials is None else server.add_secure_port(at, credentials)
    except RuntimeError as error:
        raise ConfigError(
            f"The gateway cannot listen on {host}:{settings.grpc.port} for gRPC. Is the port taken? Set "
            "CALLSCOPE_INGEST__GRPC__PORT to a free one (0 picks one)."
        ) from error
    await parts.reader.start()
    await server.start()
    return GrpcListener(server, f"{'grpc' if credentials is None else 'grpcs'}://{host}:{port}", port, parts)


def _webex_health(servicer: Any) -> grpc.GenericRpcHandler:
    """The same health service under the name by which Webex asks for it."""
    codecs: dict[str, Any] = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
    }
    return grpc.method_handlers_generic_handler(
        WEBEX_HEALTH,
        {
            "Check": grpc.unary_unary_rpc_method_handler(servicer.Check, **codecs),
            "Watch": grpc.unary_stream_rpc_method_handler(servicer.Watch, **codecs),
        },
    )
