from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from callscope.config import Detect as DetectConfig
from processors.stages.detectors import Detector, EnergyDetector, SileroDetector, detector_for, judge
from processors.stages.detectors.silero import shipped_model
from tests.signals import demo_leg

CONFIG = DetectConfig(leg_detectors={"agent": "webrtc", "bot": "energy"}, webrtc_hop_ms=30)


def bits(found: Sequence[np.ndarray | Exception]) -> list[bytes | str]:
    return [repr(one) if isinstance(one, Exception) else one.tobytes() for one in found]


def test_judges_each_by_its_own_detector_in_the_order_given() -> None:
    legs = ["customer", "agent", "bot", "customer", "agent", "customer"]
    audio = [demo_leg(1)[n * 8_000 :][: 30 * detector_for(leg, CONFIG).hop] for n, leg in enumerate(legs)]
    waiting: list[tuple[Detector, np.ndarray]] = [
        (detector_for(leg, CONFIG), pcm) for leg, pcm in zip(legs, audio, strict=True)
    ]
    together = judge(waiting)
    alone = [detector_for(leg, CONFIG).probabilities(pcm) for leg, pcm in zip(legs, audio, strict=True)]
    assert bits(together) == bits(alone)
    assert [len(found) for found in alone] == [30] * 6


def test_nothing_to_judge_is_fine() -> None:
    assert judge([]) == []
    assert bits(judge([(detector_for("customer", CONFIG), np.zeros(0, np.int16))])) == [b""]


class FailingSilero(SileroDetector):
    """Fails in the middle of a batch, when the others have heard some of their audio."""

    hops_heard = 0

    def heard(self, probability: float, state: np.ndarray) -> None:
        self.hops_heard += 1
        if self.hops_heard % 5 == 0:
            raise ZeroDivisionError("of all things")
        super().heard(probability, state)


class FailingEnergy(EnergyDetector):
    def probabilities(self, pcm: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("of all things")


@pytest.mark.parametrize("culprit", [FailingSilero(shipped_model()), FailingEnergy(-40.0, 8.0)])
def test_one_that_fails_is_the_only_one_that_notices(culprit: Detector) -> None:
    """What comes later is the same for the others, too: nobody has heard anything twice."""
    legs = ["customer", "agent", "customer", "bot"]
    others = [detector_for(leg, CONFIG) for leg in legs]
    alone = [detector_for(leg, CONFIG) for leg in legs]
    for turn in range(2):
        audio = [demo_leg(1)[(n + 8 * turn) * 8_000 :][: 30 * d.hop] for n, d in enumerate(others)]
        failed, *found = judge([(culprit, demo_leg(0)[: 30 * culprit.hop]), *zip(others, audio, strict=True)])
        assert isinstance(failed, ZeroDivisionError)
        assert bits(found) == bits([d.probabilities(pcm) for d, pcm in zip(alone, audio, strict=True)])


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ValidationError, match="off_threshold"):
        DetectConfig(on_threshold=0.3, off_threshold=0.4)


def test_a_configured_detector_has_its_settings() -> None:
    assert detector_for("agent", CONFIG).hop == 480
    assert detector_for("customer", CONFIG).hop == 512
    assert detector_for("bot", CONFIG).name == "energy"
