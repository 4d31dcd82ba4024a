"""What infer costs: CPU milliseconds per second of audio and stream, by how many windows come together.

Every stream speaks all the time: ten windows a second and an utterance every three seconds, its baseline known. Kafka,
Protobuf and the stages before are not in it.
"""

import time
from collections.abc import Iterator

import numpy as np

from callscope.config import Infer as InferConfig
from callscope.streams import StreamId
from processors.infer_streams import InferStreams
from processors.records import Envelope, FeatureWindow, VoiceSummary, WindowKind
from processors.stages.infer import Infer, Policy
from processors.stages.model import SHIPPED, load_models

RATE_HZ = 16_000
WINDOWS_HZ, UTTERANCE_S = 10, 3
WARM_UP_S = 3 * UTTERANCE_S
"""Until every baseline is known."""
LLD = np.zeros((10, 25), np.float32)


def summary(rng: np.random.Generator) -> VoiceSummary:
    """Some voice."""
    f0, alpha, hammarberg, loudness = rng.normal((25, -8, 15, 0.6), (1, 1, 1, 0.05)).tolist()
    return VoiceSummary(
        0.6, f0, 1.0, loudness, alpha, hammarberg, jitter_mean=0.02, shimmer_db_mean=1.3, hnr_db_mean=6.0
    )


def spoken(streams: int, seconds: int) -> list[list[Envelope]]:
    """Per tenth of a second, what all streams give."""
    rng = np.random.default_rng(1)
    ids = [StreamId(f"call-{n}", "customer") for n in range(streams)]
    hops = []
    for hop in range(seconds * WINDOWS_HZ):
        end = (hop + 1) * RATE_HZ // WINDOWS_HZ
        segment = hop // (UTTERANCE_S * WINDOWS_HZ) * UTTERANCE_S * RATE_HZ
        is_last = (hop + 1) % (UTTERANCE_S * WINDOWS_HZ) == 0
        kinds = (WindowKind.WINDOW, WindowKind.UTTERANCE) if is_last else (WindowKind.WINDOW,)
        functionals = rng.normal(0, 1, 88).astype(np.float32)
        hops.append(
            [
                Envelope(
                    FeatureWindow(
                        stream,
                        segment,
                        kind,
                        segment,
                        end - segment,
                        1.0,
                        1_280,
                        "eGeMAPSv02",
                        0,
                        LLD,
                        functionals,
                        summary(rng),
                    )
                )
                for kind in kinds
                for stream in ids
            ]
        )
    return hops


def cost_ms(hops: list[list[Envelope]], together: int, streams: int, names: list[str]) -> float:
    """CPU per second of audio and stream, when so many windows come in one batch."""
    models = load_models(names)
    infer = InferStreams(Infer(models, Policy(), InferConfig().max_batch), time.time_ns)
    warm = WARM_UP_S * WINDOWS_HZ
    began = 0.0
    for number, envelopes in enumerate(hops):
        if number == warm:
            began = time.process_time()
        for at in range(0, len(envelopes), together):
            infer(envelopes[at : at + together])
    seconds = (len(hops) - warm) / WINDOWS_HZ
    return (time.process_time() - began) * 1e3 / seconds / streams


def measure(streams: int, seconds: int) -> Iterator[tuple[str, float]]:
    """The stage with the default models and with all that are shipped, by how many windows come together."""
    every = sorted(path.parent.name for path in SHIPPED.glob("*/CARD.md") if (path.parent / "model.toml").exists())
    hops = spoken(streams, seconds + WARM_UP_S)
    for together in (1, 4, streams):
        for which, names in (("default", list(InferConfig().enabled)), ("all shipped", every)):
            yield f"{which} models, {together} windows in a batch", cost_ms(hops, together, streams, names)
