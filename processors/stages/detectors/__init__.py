"""Voice-activity detectors behind one interface: audio in, one speech probability a hop out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from callscope.config import Detect as DetectConfig
from processors.records import RATE_HZ, Pcm
from processors.stages.detectors.energy import EnergyDetector
from processors.stages.detectors.renewal import Birth
from processors.stages.detectors.silero import SileroDetector, shipped_model
from processors.stages.detectors.webrtc import WebRtcDetector

__all__ = [
    "Birth",
    "Detector",
    "DetectorFactory",
    "EnergyDetector",
    "SileroDetector",
    "WebRtcDetector",
    "detector_for",
    "judge",
    "load_detectors",
]


class Detector(Protocol):
    """Judges one stream, hop by hop.

    Attributes:
        name: goes into `VoiceActivity.detector`.
        hop: samples that one judgement is about.
    """

    name: str
    hop: int

    def probabilities(self, pcm: Pcm) -> NDArray[np.float64]:
        """The speech probability of each hop, 0 to 1.

        Args:
            pcm: contiguous with the previous call since the last `reset`, shape (n * hop,).

        Returns:
            Shape (n,). Detectors that only decide give 0 and 1.
        """

    def reset(self) -> None:
        """Forget what was heard: the next audio does not follow on it."""

    def birth(self) -> Birth:
        """From where what it remembers now can be rebuilt: `begin` with it, then the audio since."""

    def begin(self, birth: Birth, before: Pcm) -> None:
        """Be as fresh as it was `birth.age_hops` ago.

        Args:
            birth: of a detector of the same kind and settings.
            before: the hop before the audio that follows, shape (hop,), where `birth.primed`; anything elsewhere.
        """


DetectorFactory = Callable[[], Detector]


def detector_for(leg: str, config: DetectConfig) -> Detector:
    """A new detector, as configured for that leg.

    Args:
        leg: the stream's leg.
        config: the settings.

    Raises:
        ModelError: Silero's model file cannot be used, with the reason.
    """
    match config.leg_detectors.get(leg, config.detector):
        case "silero":
            return SileroDetector(shipped_model())
        case "webrtc":
            return WebRtcDetector(config.aggressiveness, config.webrtc_hop_ms * RATE_HZ // 1_000)
        case "energy":
            return EnergyDetector(config.energy_threshold_dbfs, config.energy_margin_db)


def load_detectors(config: DetectConfig) -> None:
    """Load what the configured detectors need, so that what cannot be used is refused at start.

    Args:
        config: the settings.

    Raises:
        ModelError: Silero's model file cannot be used, with the reason.
    """
    if "silero" in {config.detector, *config.leg_detectors.values()}:
        shipped_model()


def judge(waiting: Sequence[tuple[Detector, Pcm]]) -> list[NDArray[np.float64] | Exception]:
    """`probabilities` of many streams at once; each gets the bits that it would get alone.

    Args:
        waiting: each stream's detector, no detector twice, and the audio it should judge, shape (n * hop,).

    Returns:
        The probabilities of each, in the same order. Where a detector fails, what it raised, and only there.
    """
    out: list[NDArray[np.float64] | Exception] = [np.zeros(0)] * len(waiting)
    together: dict[int, list[tuple[int, SileroDetector, Pcm]]] = {}
    for i, (detector, pcm) in enumerate(waiting):
        if not len(pcm):
            continue
        if isinstance(detector, SileroDetector):
            together.setdefault(id(detector.model), []).append((i, detector, pcm))
        else:
            out[i] = _alone(detector, pcm)
    for places in together.values():
        # What a detector remembers is replaced, never changed in place: so this is enough to go back to it.
        before = [vars(detector).copy() for _, detector, _ in places]
        try:
            found: Sequence[NDArray[np.float64] | Exception] = places[0][1].model.judge(
                [detector for _, detector, _ in places], [pcm for _, _, pcm in places]
            )
        except Exception:  # one of them is to blame: alone, each fails for itself
            for (_, detector, _), memory in zip(places, before, strict=True):
                vars(detector).update(memory)
            found = [_alone(detector, pcm) for _, detector, pcm in places]
        for (i, _, _), probabilities in zip(places, found, strict=True):
            out[i] = probabilities
    return out


def _alone(detector: Detector, pcm: Pcm) -> NDArray[np.float64] | Exception:
    try:
        return detector.probabilities(pcm)
    except Exception as error:
        return error
