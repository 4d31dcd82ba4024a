from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from callscope.config import Detect as DetectConfig
from processors.stages.detectors import Detector, detector_for, judge
from tests.signals import demo_leg

CONFIG = DetectConfig(leg_detectors={"agent": "webrtc", "bot": "energy"}, webrtc_hop_ms=30)


def test_judges_each_by_its_own_detector_in_the_order_given() -> None:
    legs = ["customer", "agent", "bot", "customer", "agent", "customer"]
    audio = [demo_leg(1)[n * 8_000 :][: 30 * detector_for(leg, CONFIG).hop] for n, leg in enumerate(legs)]
    waiting: list[tuple[Detector, np.ndarray]] = [
        (detector_for(leg, CONFIG), pcm) for leg, pcm in zip(legs, audio, strict=True)
    ]
    together = judge(waiting)
    alone = [detector_for(leg, CONFIG).probabilities(pcm) for leg, pcm in zip(legs, audio, strict=True)]
    assert [found.tobytes() for found in together] == [found.tobytes() for found in alone]
    assert [len(found) for found in together] == [30] * 6


def test_nothing_to_judge_is_fine() -> None:
    assert judge([]) == []
    (found,) = judge([(detector_for("customer", CONFIG), np.zeros(0, np.int16))])
    assert len(found) == 0


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ValidationError, match="off_threshold"):
        DetectConfig(on_threshold=0.3, off_threshold=0.4)


def test_a_configured_detector_has_its_settings() -> None:
    assert detector_for("agent", CONFIG).hop == 480
    assert detector_for("customer", CONFIG).hop == 512
    assert detector_for("bot", CONFIG).name == "energy"
