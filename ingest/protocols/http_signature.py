"""HTTP message signatures with a shared secret (HMAC-SHA256), made and verified: pure, the time is passed in.

What Genesys AudioHook signs its WebSocket handshakes with: draft 11 of "HTTP Message Signatures" of the IETF's HTTP
working group (<https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-message-signatures-11>), which became RFC 9421.
The signed text has a line `"<component>": <value>` for each covered component, and last the parameters::

    "@request-target": /audiohook
    "@authority": callscope.example.com
    "x-api-key": key-1
    "@signature-params": ("@request-target" "@authority" "x-api-key");keyid="key-1";nonce="...";created=1767225600

The parameters are written anew from what was parsed, so that only one spelling of a signature is good.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, cast

import http_sf

from callscope.errors import BadSignature, NonceCacheFull

NONCE_CHARACTERS: Final = 22
"""The shortest nonce that is taken: 128 bits in Base64."""
_LONGEST_NONCE: Final = 256
_ALGORITHM: Final = "hmac-sha256"
_PARAMETERS: Final = frozenset({"keyid", "nonce", "alg", "created", "expires"})
_NO_KEY: Final = bytes(32)
"""Signatures under unknown keys are computed with this one, so that they take as long as others."""
_DEFAULT_PORTS: Final = (":80", ":443")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What of a request a signature may cover.

    Attributes:
        target: path and query, as they came in the request line.
        headers: every header field, names in any case, in order.
        authority: the host that clients sign; None: what the Host header says.
    """

    target: str
    headers: Sequence[tuple[str, str]]
    authority: str | None = None

    def header(self, name: str) -> str | None:
        """All fields of that name, stripped and joined by ", "; None if there is none.

        Args:
            name: in lower case.
        """
        values = [" ".join(value.split("\r\n")).strip() for field, value in self.headers if field.lower() == name]
        return ", ".join(values) if values else None

    def component(self, name: str) -> str:
        """The value of a covered component.

        Raises:
            BadSignature: the request has no such component, or it is of a kind that is not supported.
        """
        match name:
            case "@request-target":
                return self.target
            case "@authority":
                value = self.authority or normal_authority(self.header("host") or "")
            case "@method":
                return "GET"  # the only one a WebSocket handshake can have
            case "@path":
                return self.target.partition("?")[0]
            case _ if name.startswith("@"):
                raise BadSignature(f"The signature covers {name!r}, which is not supported.")
            case _:
                value = self.header(name) or ""
        if not value:
            raise BadSignature(f"The signature covers {name!r}, and the request has none.")
        return value


def normal_authority(host: str) -> str:
    """A host and port as signatures write them: in lower case, without the port that is the scheme's own."""
    host = host.strip().lower()
    for port in _DEFAULT_PORTS:
        host = host.removesuffix(port)
    return host


class Nonces:
    """The nonces of verified signatures, for as long as each could be used again.

    Args:
        capacity: how many are remembered at most.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._until: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def use(self, key_id: str, nonce: str, now_s: float, until_s: float) -> None:
        """Take a nonce as used.

        Args:
            key_id: whose.
            nonce: of a signature that is good.
            now_s: seconds since the epoch.
            until_s: when the signature expires anyway.

        Raises:
            BadSignature: it was used before.
            NonceCacheFull: there is no room: nothing is forgotten early, or it could be used again.
        """
        if self._until.get((key_id, nonce), 0.0) >= now_s:
            raise BadSignature("The signature's nonce was used before.")
        if len(self._until) >= self._capacity:
            self._until = {entry: until for entry, until in self._until.items() if until >= now_s}
        if len(self._until) >= self._capacity:
            raise NonceCacheFull(
                f"{self._capacity} signed requests came within the life of a signature, which is the limit."
            )
        self._until[key_id, nonce] = until_s


@dataclass(frozen=True, slots=True)
class _Signature:
    components: tuple[str, ...]
    parameters: Mapping[str, Any]
    base_line: str
    mac: bytes

    def text(self, request: SignedRequest) -> bytes:
        lines = [f'"{name}": {request.component(name)}' for name in self.components]
        return "\n".join([*lines, f'"@signature-params": {self.base_line}']).encode(errors="surrogateescape")


class SignatureVerifier:
    """Tells whether requests are signed by who they say they are from, lately, and for the first time.

    Args:
        required: components a signature must cover; of a group ("@authority", "host") one.
        max_age_s: how old a signature may be.
        clock_skew_s: how far the signer's clock may be ahead.
        nonces: how many are remembered.
    """

    def __init__(
        self,
        required: Iterable[str | tuple[str, ...]],
        *,
        max_age_s: float = 10.0,
        clock_skew_s: float = 3.0,
        nonces: int = 10_000,
    ) -> None:
        self._required = [(group,) if isinstance(group, str) else group for group in required]
        self._max_age_s = max_age_s
        self._clock_skew_s = clock_skew_s
        self._nonces = Nonces(nonces)

    def verify(self, request: SignedRequest, key_id: str, secret: bytes | None, now_s: float) -> None:
        """Nothing, if the request bears a good signature under that key.

        Args:
            request: with the headers `Signature-Input` and `Signature`.
            key_id: the key the signature must be made with.
            secret: the key; None: there is none of that id, and no signature will be good.
            now_s: seconds since the epoch.

        Raises:
            BadSignature: there is no signature, it is not well-formed, does not cover what it must, is too old or was
                used before, or is not good.
            NonceCacheFull: too many good ones came of late.
        """
        signature = _parse(request, key_id)
        for group in self._required:
            if not any(name in signature.components for name in group):
                raise BadSignature(f"The signature does not cover {group[0]!r}.")
        expires_s = self._in_time(signature.parameters, now_s)
        expected = hmac.digest(secret or _NO_KEY, signature.text(request), "sha256")
        if not hmac.compare_digest(expected, signature.mac) or not secret:
            raise BadSignature("The signature is not good.")
        self._nonces.use(key_id, signature.parameters["nonce"], now_s, expires_s)

    def _in_time(self, parameters: Mapping[str, Any], now_s: float) -> float:
        created = parameters["created"]
        expires_s = created + self._max_age_s
        if "expires" in parameters:
            expires_s = min(expires_s, parameters["expires"])
        if created > now_s + self._clock_skew_s:
            raise BadSignature("The signature was created in the future: compare the clocks.")
        if expires_s < now_s:
            raise BadSignature("The signature has expired.")
        return float(expires_s)


def is_signed(request: SignedRequest) -> bool:
    """Whether a request claims to be signed."""
    return request.header("signature") is not None or request.header("signature-input") is not None


def _parse(request: SignedRequest, key_id: str) -> _Signature:
    inputs = _dictionary(request, "signature-input")
    for label, member in inputs.items():
        if not (isinstance(member, tuple) and isinstance(member[0], list)):
            raise BadSignature(f"Signature-Input has no list of components for {label!r}.")
        parameters = member[1]
        if not hmac.compare_digest(str(parameters.get("keyid", "")).encode(), key_id.encode()):
            continue
        return _Signature(_components(member[0]), _checked(parameters), _line_of(member), _mac(request, label))
    raise BadSignature("No signature is made with the key that X-API-KEY names.")


def _dictionary(request: SignedRequest, name: str) -> Mapping[str, Any]:
    text = request.header(name)
    if text is None:
        raise BadSignature(f"The request has no {name.title()} header.")
    try:
        return cast(Mapping[str, Any], http_sf.parse(text.encode("ascii"), tltype="dictionary"))
    except (ValueError, RecursionError):  # StructuredFieldError and UnicodeEncodeError are ValueErrors
        raise BadSignature(f"The {name.title()} header is not a structured field.") from None


def _components(items: Sequence[tuple[Any, Mapping[str, Any]]]) -> tuple[str, ...]:
    names = []
    for name, parameters in items:
        if type(name) is not str or parameters:
            raise BadSignature("Signature-Input lists a component that is not a plain string.")
        names.append(name)
    if len(set(names)) != len(names):
        raise BadSignature("Signature-Input lists a component twice.")
    return tuple(names)


def _checked(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    if unknown := parameters.keys() - _PARAMETERS:
        raise BadSignature(f"Signature-Input has an unknown parameter: {min(unknown)!r}.")
    if parameters.get("alg", _ALGORITHM) != _ALGORITHM:
        raise BadSignature(f"The signature's algorithm is not {_ALGORITHM}.")
    nonce = parameters.get("nonce")
    if type(nonce) is not str or not NONCE_CHARACTERS <= len(nonce) <= _LONGEST_NONCE:
        raise BadSignature(
            f"The signature's nonce must be a string of {NONCE_CHARACTERS} to {_LONGEST_NONCE} characters."
        )
    for name in ("created", "expires"):
        if name in parameters and (type(parameters[name]) is not int or parameters[name] < 0):
            raise BadSignature(f"The signature's {name!r} is not a time in seconds.")
    if "created" not in parameters:
        raise BadSignature("The signature does not say when it was created.")
    return parameters


def _line_of(member: Any) -> str:
    # A dictionary of one, without its key: the library has no function for an inner list by itself.
    return http_sf.ser({"s": member}).removeprefix("s=")


def _mac(request: SignedRequest, label: str) -> bytes:
    member = _dictionary(request, "signature").get(label)
    if not (isinstance(member, tuple) and isinstance(member[0], bytes)):
        raise BadSignature(f"The Signature header has no signature {label!r}.")
    return member[0]


def sign(
    request: SignedRequest,
    components: Sequence[str],
    *,
    key_id: str,
    secret: bytes,
    nonce: str,
    created_s: int,
    expires_s: int,
    label: str = "sig1",
) -> dict[str, str]:
    """The two headers that sign a request.

    Args:
        request: with all that is to be covered.
        components: what to cover, in order.
        key_id: names the key.
        secret: the key.
        nonce: never used before, at least 22 characters.
        created_s: now, seconds since the epoch.
        expires_s: until when it holds.
        label: names the signature among others.

    Raises:
        BadSignature: the request has not all components.
    """
    parameters = {"keyid": key_id, "nonce": nonce, "alg": _ALGORITHM, "created": created_s, "expires": expires_s}
    member: Any = ([(name, {}) for name in components], parameters)
    signature = _Signature(tuple(components), parameters, _line_of(member), b"")
    mac = hmac.new(secret, signature.text(request), sha256).digest()
    return {
        "signature-input": http_sf.ser({label: member}),
        "signature": http_sf.ser({label: (mac, {})}),
    }
