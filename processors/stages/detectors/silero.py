"""Silero's voice-activity detector, version 6: a small recurrent network, run for many streams at once.

The network takes a hop of 32 ms, with the last samples of the hop before in front of it, and its state. What it
remembers is in the state, and over minutes of noise the state drifts: speech after ten minutes of a noisy line is found
less often than after ten seconds. Starting from nothing costs accuracy too, for some seconds. So a state is *renewed*
while it works: when it is ten seconds old and the stream is silent, a second, fresh state hears the same hops beside
it, and takes its place after five seconds. All of it counts hops, that is media time.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from callscope.errors import ModelError
from processors.records import RATE_HZ, Pcm
from processors.stages.detectors.renewal import Birth, Renewal, Step

FOLDER = Path(__file__).parents[2] / "models" / "silero-vad"

FILES = {
    8_000: ("silero_vad.onnx", "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"),
    16_000: ("silero_vad_16k_batch.onnx", "62a1c08f44448d3f3297783648eddb062d8b41ba9609aea9a50fc9a8426a49ad"),
}
"""By sampling rate: file and SHA-256. The first is Silero's own, which takes both rates; the second is made of it."""

HOPS = {8_000: (256, 32), 16_000: (512, 64)}
"""By sampling rate: samples of a hop, and of the audio before it that the network wants to see (its own wrapper's)."""

MAX_ROWS = 64
"""Rows of one run; larger batches are no cheaper by the row."""

RENEW_AFTER_HOPS = 312
"""A state older than 10 s is renewed at the next silence,"""
RENEW_ANYWAY_AFTER_HOPS = 1_875
"""and one older than 60 s without waiting for any."""
SILENT_HOPS = 8
"""Silence: the last 256 ms all"""
SILENT_BELOW = 0.35
"""below this probability."""
WARM_UP_HOPS = 156
"""A fresh state takes over when it has heard 5 s."""

_STATE = (2, 128)
_Floats = NDArray[np.float32]


class SileroModel:
    """The network at one sampling rate; one for all streams of a process, one thread.

    Attributes:
        rate_hz: of the audio it takes.
        batches: whether streams are run together; False on a machine where that would change a stream's bits.

    Args:
        rate_hz: 8000 or 16000.
        path: the ONNX file.
        sha256: what it must hash to.

    Raises:
        ModelError: it cannot be used, with the reason.
    """

    def __init__(self, rate_hz: int, path: Path, sha256: str) -> None:
        self.rate_hz = rate_hz
        self._row = sum(HOPS[rate_hz])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error}. Install Callscope again.") from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise ModelError(f"{path} is not the file that belongs here: its SHA-256 is {found}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            takes_rate = "sr" in {tensor.name for tensor in self._session.get_inputs()}
            self._rate = {"sr": np.array(rate_hz, np.int64)} if takes_rate else {}
            self.batches = self._keeps_its_bits()
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            raise ModelError(f"{path} does not run in onnxruntime {ort.__version__}: {error}") from error

    def judge(self, streams: Sequence[SileroDetector], audio: Sequence[Pcm]) -> list[NDArray[np.float64]]:
        """The speech probabilities of several streams: the first hops of all in one run, then the second ones, ...

        Args:
            streams: detectors of this model, none twice.
            audio: for each, what follows on what it heard, shape (n * hop,).

        Returns:
            For each, shape (n,).
        """
        hop, context = streams[0].hop, streams[0].context
        wide = [stream.with_context(pcm) for stream, pcm in zip(streams, audio, strict=True)]
        counts = [len(pcm) // hop for pcm in audio]
        out = [np.zeros(count) for count in counts]
        for k in range(max(counts)):
            at = k * hop
            turn = [i for i, count in enumerate(counts) if k < count]
            states = [streams[i].state for i in turn]
            young = [i for i in turn if streams[i].young is not None]
            states += [state for i in young if (state := streams[i].young) is not None]
            rows = [wide[i][at : at + context + hop] for i in (*turn, *young)]
            probabilities, after = self._run(rows, states)
            for n, i in enumerate(young, len(turn)):
                streams[i].young = after[n]
            for n, i in enumerate(turn):
                out[i][k] = probabilities[n]
                streams[i].heard(probabilities[n], after[n])
        return out

    def _run(self, rows: list[Pcm], states: list[_Floats]) -> tuple[list[float], list[_Floats]]:
        """The probabilities of all rows, and their states after it, in runs of a bounded size."""
        size = MAX_ROWS if self.batches else 1
        probabilities: list[float] = []
        after: list[_Floats] = []
        for at in range(0, len(rows), size):
            audio = np.concatenate(rows[at : at + size]).astype(np.float32)
            audio *= np.float32(1 / 32_768)
            state_before = np.stack(states[at : at + size], axis=1)
            fed = {"input": audio.reshape(-1, self._row), "state": state_before, **self._rate}
            found, state = self._session.run(["output", "stateN"], fed)
            probabilities += found[:, 0].tolist()
            after.extend(state.swapaxes(0, 1).copy())
        return probabilities, after

    def _keeps_its_bits(self) -> bool:
        """Try rows alone, together, and in another order and company."""
        rng = np.random.default_rng(0)
        rows = list(rng.normal(0, 3_000, (MAX_ROWS, self._row)).astype(np.int16))
        states = list(rng.normal(0, 0.5, (MAX_ROWS, *_STATE)).astype(np.float32))

        def bits(which: Sequence[int]) -> list[tuple[float, bytes]]:
            found, after = self._run([rows[i] for i in which], [states[i] for i in which])
            return list(zip(found, (state.tobytes() for state in after), strict=True))

        self.batches = True
        everyone = range(MAX_ROWS)
        alone = [bits([i])[0] for i in everyone]
        few = [pair for at in range(0, MAX_ROWS - 3, 3) for pair in bits(range(at, at + 3))]
        return bits(everyone) == alone == bits(everyone[::-1])[::-1] and few == alone[: len(few)]


@cache
def shipped_model(rate_hz: int = RATE_HZ) -> SileroModel:
    """The model that comes with Callscope, loaded once.

    Args:
        rate_hz: 8000 or 16000.

    Raises:
        ModelError: it cannot be used, with the reason.
    """
    name, sha256 = FILES[rate_hz]
    return SileroModel(rate_hz, FOLDER / name, sha256)


class SileroDetector:
    """What the network remembers of one stream.

    Attributes:
        model: runs the network.
        context: samples before a hop that the network sees again.
        state: the network's, shape (2, 128).
        young: of the state that will take over, if there is one.

    Args:
        model: as above; the audio is at its rate.
        renew: whether the state is renewed; False only to measure the network as it is.
    """

    name = "silero"

    def __init__(self, model: SileroModel, *, renew: bool = True) -> None:
        self.model = model
        self.hop, self.context = HOPS[model.rate_hz]
        self._renewal = Renewal(
            RENEW_AFTER_HOPS if renew else sys.maxsize,
            RENEW_ANYWAY_AFTER_HOPS if renew else sys.maxsize,
            SILENT_HOPS,
            WARM_UP_HOPS,
        )
        self.reset()

    def probabilities(self, pcm: Pcm) -> NDArray[np.float64]:
        """See `Detector`; `SileroModel.judge` does it for many streams at once."""
        return self.model.judge([self], [pcm])[0] if len(pcm) else np.zeros(0)

    def reset(self) -> None:
        """Forget what was heard."""
        self.state = np.zeros(_STATE, np.float32)
        self.young: _Floats | None = None
        self._before = np.zeros(self.context, np.int16)
        self._primed = False
        self._renewal.begin()

    def birth(self) -> Birth:
        """See `Detector`."""
        return Birth(self._renewal.age_hops, self._primed)

    def begin(self, birth: Birth, before: Pcm) -> None:
        """See `Detector`."""
        self.reset()
        if birth.primed:
            self._before, self._primed = before[-self.context :].copy(), True

    # The model calls these two.

    def with_context(self, pcm: Pcm) -> Pcm:
        """The audio behind the end of what came before it, as the network wants to see it."""
        wide = np.concatenate((self._before, pcm))
        self._before = wide[-self.context :].copy()
        return wide

    def heard(self, probability: float, state: _Floats) -> None:
        """Take in what the network said of a hop; `young` is one hop further already."""
        self.state = state
        match self._renewal.heard(silent=probability < SILENT_BELOW):
            case Step.BEGIN:
                self.young = np.zeros(_STATE, np.float32)
            case Step.TAKE_OVER:
                assert self.young is not None, "it has begun"
                self.state, self.young, self._primed = self.young, None, True
