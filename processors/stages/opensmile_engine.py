"""openSMILE as a `FeatureEngine`: driven tick by tick, without a thread, bit for bit as in batch.

openSMILE's C interface runs a whole input in one blocking call, which for live audio means a thread for every speaker.
Its library also exports the step that this call repeats, `cComponentManager::tick`. After each portion of audio we tick
until no component has anything left to do, so that `feed` returns every row the audio permits, deterministically.
At the end of the segment the blocking call finds all its input there, and finishes at once. Why, and what is risked:
docs/decisions/0007-opensmile-tick-by-tick.md.

openSMILE's licence allows research and evaluation only; see docs/decisions/0006-opensmile-licence.md.
"""

from __future__ import annotations

import atexit
import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_long, c_longlong, c_void_p, string_at
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callscope.errors import FeatureEngineError
from processors.records import RATE_HZ, Pcm
from processors.stages.engine import HOP_SAMPLES
from processors.stages.functionals import INNER_NAMES, Functionals
from processors.stages.opensmile_config import without_unread

FEATURE_SET = "eGeMAPSv02"

_VERSION = "2.6.0"
"""Of the Python package whose library this was written for: the mangled names and `_SmileObject` are its own."""

OWN_RESAMPLING = Path(__file__).parent / "native" / "spectral_resampling.so"
"""Stands in for the slowest function of openSMILE's library, with the same results; there if there was a compiler
when this was installed. docs/decisions/0018-spectral-resampling-of-our-own.md."""

_SOURCE, _LLD_SINK, _FUNC_SINK = b"extsource", b"lldsink", b"funcsink"
_SUCCESS = 0
_INITIALIZED = 1
"""`SMILE_INITIALIZED`, a state."""
_DID_WORK = 1
"""`TICK_SUCCESS`, an index into the six counts a tick returns (smileComponent.hpp)."""
_RESULT_KINDS = 6

_SinkCallback = CFUNCTYPE(c_int, c_void_p, c_long, c_void_p)
"""`ExternalSinkCallback(const float *data, long vectorSize, void *param)`."""


class _SmileObject(ctypes.Structure):
    """The head of `smileobj_t_` (SMILEapi.cpp, openSMILE 3.0.2)."""

    _fields_ = (
        ("state", c_int),
        ("state_callback_param", c_void_p),
        ("state_callback", c_void_p),
        ("log_callback", c_void_p),
        ("log_callback_param", c_void_p),
        ("logger", c_void_p),
        ("config_manager", c_void_p),
        ("component_manager", c_void_p),
    )
    state: int
    component_manager: int | None
    logger: int | None


class _Option(ctypes.Structure):
    """`smileopt_t`."""

    _fields_ = (("name", c_char_p), ("value", c_char_p))


class _Library:
    """The shared library inside the package `opensmile`, which itself is not imported (it would load pandas)."""

    def __init__(self) -> None:
        spec = util.find_spec("opensmile")
        if spec is None or not spec.submodule_search_locations:
            raise FeatureEngineError(f"The package opensmile is not installed. Install opensmile=={_VERSION}.")
        version = metadata.version("opensmile")
        if version != _VERSION:
            raise FeatureEngineError(
                f"opensmile {version} is installed, but features are extracted through internals of {_VERSION}. "
                f"Install opensmile=={_VERSION}."
            )
        core = Path(spec.submodule_search_locations[0]) / "core"
        self.config = core / "config"
        files = sorted(core.glob("bin/*/*SMILEapi.*"))
        if not files:
            raise FeatureEngineError(f"opensmile {version} has no library for this platform below {core / 'bin'}.")
        try:
            if OWN_RESAMPLING.is_file():  # before openSMILE's library, which then finds these functions instead of its
                ctypes.CDLL(str(OWN_RESAMPLING), ctypes.RTLD_GLOBAL)
            self._dll = ctypes.CDLL(str(files[0]))
            self.new = self._function("smile_new", [], c_void_p)
            self.initialize = self._function(
                "smile_initialize",
                [c_void_p, c_char_p, c_int, POINTER(_Option), c_int, c_int, c_int, c_char_p],
            )
            self.run = self._function("smile_run", [c_void_p])
            self.reset = self._function("smile_reset", [c_void_p])
            self.free = self._function("smile_free", [c_void_p], None)
            self.error = self._function("smile_error_msg", [c_void_p], c_char_p)
            self.write = self._function("smile_extaudiosource_write_data", [c_void_p, c_char_p, c_char_p, c_int])
            self.end_input = self._function("smile_extaudiosource_set_external_eoi", [c_void_p, c_char_p])
            self.on_data = self._function(
                "smile_extsink_set_data_callback", [c_void_p, c_char_p, _SinkCallback, c_void_p]
            )
            self.element_count = self._function("smile_extsink_get_num_elements", [c_void_p, c_char_p, POINTER(c_long)])
            self.element_name = self._function(
                "smile_extsink_get_element_name", [c_void_p, c_char_p, c_long, POINTER(c_char_p)]
            )
            # cComponentManager::tick(int threadId, long long tickNr, long lastNrun, long *tickResultCounts)
            self.tick = self._function(
                "_ZN17cComponentManager4tickEixlPl", [c_void_p, c_int, c_longlong, c_long, POINTER(c_long)], None
            )
            # cSmileLogger::useForCurrentThread()
            self.use_logger = self._function("_ZN12cSmileLogger19useForCurrentThreadEv", [c_void_p], None)
        except (OSError, AttributeError) as error:
            raise FeatureEngineError(
                f"openSMILE's library {files[0].name} cannot be driven on this platform ({error}). "
                "Run the extract stage on Linux x86-64, or switch the stage off."
            ) from error
        self._folder = TemporaryDirectory(prefix="callscope-opensmile-")
        atexit.register(self._folder.cleanup)
        self.main_config = Path(self._folder.name) / "eGeMAPSv02.conf"
        self.main_config.write_text(without_unread(self.config), encoding="utf-8")

    def _function(self, name: str, argument_types: list[type], result_type: type | None = c_int) -> Callable[..., Any]:
        function = self._dll[name]
        function.argtypes = argument_types
        function.restype = result_type
        return function


_library: _Library | None = None
_building = Lock()
"""openSMILE changes the process' locale while it reads its configuration: one instance at a time."""


def _load() -> _Library:
    global _library
    if _library is None:
        _library = _Library()
    return _library


class OpenSmile:
    """One live openSMILE instance; 6 MB, and about 12 ms of CPU per second of audio.

    Not safe to use from two threads at once; any one thread may call it. Other threads run while openSMILE works.

    Args:
        pool: where the instance goes when it is closed.

    Raises:
        FeatureEngineError: openSMILE cannot be driven here, with what to do about it.
    """

    feature_set = FEATURE_SET
    delay = 7 * HOP_SAMPLES
    """The pitch window of 60 ms of the second row after a row: one for the Viterbi path, one for the smoothing."""

    def __init__(self, pool: OpenSmilePool) -> None:
        self._pool = pool
        lib = self._lib = _load()
        self._rows: list[bytes] = []
        self._functionals: list[bytes] = []
        self._on_row = _SinkCallback(_collector(self._rows))
        self._on_functionals = _SinkCallback(_collector(self._functionals))
        self._counts = (c_long * _RESULT_KINDS)()
        self._object = lib.new()
        config = lib.config
        options = {
            "source": config / "shared/standard_external_wave_input.conf.inc",
            "sink": Path(__file__).with_name("egemaps.conf"),
            "bufferModeRbConf": config / "shared/BufferModeRb.conf.inc",
            "frameModeFunctionalsConf": config / "shared/FrameModeFunctionals.conf.inc",
            "sampleRate": RATE_HZ,
            "nBits": 16,
        }
        pairs = (_Option * len(options))(*(_Option(k.encode(), str(v).encode()) for k, v in options.items()))
        with _building:
            main = str(lib.main_config).encode()
            code = lib.initialize(self._object, main, len(options), pairs, 1, 0, 0, None)
        try:
            self._check(code, "start")
            self._begin()
        except FeatureEngineError:
            self.free()
            raise

    @cached_property
    def lld_names(self) -> tuple[str, ...]:
        """The 25 low-level descriptors, named by openSMILE."""
        names = self._names(_LLD_SINK)
        if names[-len(INNER_NAMES) :] != INNER_NAMES:
            raise FeatureEngineError(f"openSMILE's levels are not those of opensmile {_VERSION}: {', '.join(names)}.")
        return names[: -len(INNER_NAMES)]

    @cached_property
    def functional_names(self) -> tuple[str, ...]:
        """The 88 functionals, named by openSMILE."""
        return self._names(_FUNC_SINK)

    def window_functionals(self, keep: int) -> Functionals:
        """What computes functionals of windows; see `FeatureEngine`."""
        return Functionals(self.lld_names, keep)

    def feed(self, pcm: Pcm) -> NDArray[np.float32]:
        """Take in audio; see `FeatureEngine`.

        Raises:
            FeatureEngineError: openSMILE did not take it.
        """
        lib = self._lib
        raw = pcm.tobytes()
        if not raw:
            return self._take_rows()
        self._check(lib.write(self._object, _SOURCE, raw, len(raw)), "take in audio")
        lib.use_logger(self._logger)
        worked = -1
        while worked != 0:
            lib.tick(self._manager, -1, self._ticks, worked, self._counts)
            self._ticks += 1
            worked = self._counts[_DID_WORK]
        return self._take_rows()

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The segment has ended; see `FeatureEngine`.

        Raises:
            FeatureEngineError: openSMILE could not finish.
        """
        self._check(self._lib.end_input(self._object, _SOURCE), "end its input")
        self._check(self._lib.run(self._object), "finish")
        self._finished = True
        return self._take_rows(), np.frombuffer(b"".join(self._functionals), np.float32)

    def close(self) -> None:
        """Give a finished instance back to its pool; one that did not finish is freed."""
        if self._finished:
            self._pool.put(self)
        else:
            self.free()

    def renew(self) -> None:
        """Make a finished instance as good as new; 3 ms, half of building one."""
        with _building:
            self._check(self._lib.reset(self._object), "start again")
        self._begin()

    def free(self) -> None:
        """Give its memory back."""
        obj, self._object = self._object, None
        if obj is not None:
            self._lib.free(obj)

    def _begin(self) -> None:
        lib, obj = self._lib, self._object
        self._check(lib.on_data(obj, _LLD_SINK, self._on_row, None), "connect its output")
        self._check(lib.on_data(obj, _FUNC_SINK, self._on_functionals, None), "connect its output")
        inside = _SmileObject.from_address(obj)
        if inside.state != _INITIALIZED or not inside.component_manager or not inside.logger:
            raise FeatureEngineError(f"openSMILE's objects are not laid out as those of opensmile {_VERSION}.")
        self._manager, self._logger = inside.component_manager, inside.logger
        self._ticks = 0
        self._finished = False
        self._rows.clear()
        self._functionals.clear()

    def _take_rows(self) -> NDArray[np.float32]:
        rows = np.frombuffer(b"".join(self._rows), np.float32).reshape(-1, len(self.lld_names) + len(INNER_NAMES))
        self._rows.clear()
        return rows

    def _names(self, sink: bytes) -> tuple[str, ...]:
        count = c_long()
        self._check(self._lib.element_count(self._object, sink, byref(count)), "name its output")
        names = []
        for index in range(count.value):
            name = c_char_p()
            self._check(self._lib.element_name(self._object, sink, index, byref(name)), "name its output")
            names.append((name.value or b"").decode())
        return tuple(names)

    def _check(self, code: int, what: str) -> None:
        if code != _SUCCESS:
            reason = (self._lib.error(self._object) or b"no reason given").decode(errors="replace")
            raise FeatureEngineError(f"openSMILE could not {what}: {reason} (code {code})")


class OpenSmilePool:
    """An `EngineFactory` that keeps finished instances for the next segment.

    Args:
        max_idle: instances kept at most.
    """

    def __init__(self, max_idle: int = 64) -> None:
        self._max_idle = max_idle
        self._idle: list[OpenSmile] = []

    def __call__(self) -> OpenSmile:
        """A fresh engine.

        Raises:
            FeatureEngineError: openSMILE cannot be driven here, with what to do about it.
        """
        return self._idle.pop() if self._idle else OpenSmile(self)

    def __len__(self) -> int:
        """How many idle instances it holds."""
        return len(self._idle)

    def warm(self, count: int) -> None:
        """Build instances ahead of need, up to `count` idle ones."""
        while len(self._idle) < min(count, self._max_idle):
            self._idle.append(OpenSmile(self))

    def put(self, engine: OpenSmile) -> None:
        """Take a finished instance back."""
        if len(self._idle) < self._max_idle:
            engine.renew()
            self._idle.append(engine)
        else:
            engine.free()

    def clear(self) -> None:
        """Free the idle instances."""
        while self._idle:
            self._idle.pop().free()


def _collector(into: list[bytes]) -> Callable[[int, int, int | None], int]:
    """A sink callback that keeps a copy of each row."""
    append = into.append

    def collect(data: int, count: int, _: int | None) -> int:
        append(string_at(data, 4 * count))
        return 1

    return collect
