"""A model is a folder: `model.onnx`, `model.toml` that says what it takes and gives, and `CARD.md` for people.

::

    name = "arousal"
    version = "1.0.0"
    sha256 = "…"                # of model.onnx
    licence = "Apache-2.0"
    source = "where its method or data come from"
    policy = "emotion"          # runs on the legs that `infer.emotion_legs` names; "health": `infer.health_legs`;
                                # "any": on every leg. It is also the purpose that a consent event speaks of
    legs = ["customer"]         # of those, only these; leave out for all of them
    caution = "screening, …"    # said beside every result; may be left out

    [input]
    features = ["f0_mean"]      # names of processors/stages/named_features.py
    kinds = ["utterance"]       # of which windows; leave out for "window" and "utterance"
    min_voiced_s = 0.3          # a window with less voiced speech gives no value
    min_coverage = 0.8          # nor does one of which less was heard (0.8 if left out)

    [baseline]                  # leave out where the model needs none
    min_voiced_s = 5.0          # no value before the stream's finished utterances hold that much

    [[outputs]]
    name = "arousal"
    unit = ""
    low = 0.0
    high = 1.0

`model.onnx` takes `features`, float32 of shape (batch, features), and with a baseline also `mean` and `deviation` of
the same shape: what is usual for the speaker. It gives one tensor per output, named like it, float32 of shape
(batch, 1).

A model of the waveform has `[input.waveform]` with `length_s`, `rate_hz` (8000 or 16000) and `hop_s` instead of
`features`: it hears the last `length_s` of a segment every `hop_s`, and at its end. Its `model.onnx` takes `waveform`,
float32 of shape (batch, length_s * rate_hz), from -1 to 1. Audio with a hole in it gives no value. It can have no
baseline.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from callscope.errors import ModelError
from processors.records import RATE_HZ
from processors.stages.named_features import NAMED_FEATURES

SHIPPED = Path(__file__).parent.parent / "models"
"""The folder of the models that come with Callscope."""

_MAX_BYTES = 1 << 30
_PROBE_ROWS = 33
_PROBE_WAVEFORMS = 3
_PROBE_LEVEL = 0.1
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Waveform(_Part):
    """The audio that a model hears."""

    length_s: float = Field(ge=0.02, le=30)
    rate_hz: Literal[8_000, 16_000] = 16_000
    hop_s: float = Field(1.0, ge=0.02, le=30)

    @property
    def width(self) -> int:
        """Samples at `rate_hz`."""
        return round(self.length_s * self.rate_hz)

    @property
    def length(self) -> int:
        """The same in samples of the pipeline's audio."""
        return self.width * RATE_HZ // self.rate_hz

    @property
    def hop(self) -> int:
        """From one excerpt to the next, samples of the pipeline's audio."""
        return round(self.hop_s * RATE_HZ)


class Input(_Part):
    """What a model is given: features of each window, or audio."""

    features: tuple[str, ...] = ()
    waveform: Waveform | None = None
    kinds: tuple[Literal["window", "utterance"], ...] = Field(("window", "utterance"), min_length=1)
    min_voiced_s: float = Field(0.0, ge=0)
    min_coverage: float = Field(0.8, ge=0, le=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Input:
        if bool(self.features) == (self.waveform is not None):
            raise ValueError('name either "features" or a "waveform", one of them')
        if self.waveform is not None and self.model_fields_set != {"waveform"}:
            raise ValueError("all else in [input] is about windows; a waveform has none")
        if len(set(self.features)) < len(self.features):
            raise ValueError("a feature is named twice")
        return self

    @property
    def width(self) -> int:
        """Numbers in a row of the input."""
        return self.waveform.width if self.waveform else len(self.features)


class BaselineNeed(_Part):
    """How much must be known of the speaker before a model says anything."""

    min_voiced_s: float = Field(gt=0)


class OutputSpec(_Part):
    """One number that a model gives, and the range it lies in."""

    name: _Name
    unit: str = ""
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_a_range(self) -> OutputSpec:
        if self.low >= self.high:
            raise ValueError(f"its range is from {self.low:g} to {self.high:g}; low must be below high")
        return self


class Manifest(_Part):
    """`model.toml`."""

    name: _Name
    version: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = Field(min_length=1)
    source: str = Field(min_length=1)
    policy: Literal["any", "emotion", "health"]
    legs: tuple[str, ...] = ()
    caution: str = Field("", max_length=200)
    input: Input
    baseline: BaselineNeed | None = None
    outputs: tuple[OutputSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        if self.baseline is not None and self.input.waveform is not None:
            raise ValueError("a model of the waveform can have no baseline")
        if len({output.name for output in self.outputs}) < len(self.outputs):
            raise ValueError("two outputs have the same name")
        return self


class Model:
    """A loaded model; one thread, and the same bits for a window in any company.

    Attributes:
        manifest: its `model.toml`.
        batches: whether rows are run together; False for a model that gave a row other bits in other company.

    Args:
        folder: where it lies.

    Raises:
        ModelError: it cannot be used, with the reason.
    """

    def __init__(self, folder: Path) -> None:
        self.manifest = _read_manifest(folder)
        self._session = _open_session(folder, self.manifest)
        self._output_names = [output.name for output in self.manifest.outputs]
        self._input_names = _inputs_of(self.manifest)
        _check_tensors(folder, self._session, self.manifest, self._input_names)
        try:
            self.batches = self._keeps_its_bits()
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            raise ModelError(f"{folder}: model.onnx failed on a trial batch: {error}") from error

    def run(
        self,
        rows: NDArray[np.float32],
        mean: NDArray[np.float32] | None = None,
        deviation: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The outputs of each row.

        Args:
            rows: features in the manifest's order, or samples, shape (n, `manifest.input.width`).
            mean: the speaker's usual values, same shape; for models with a baseline.
            deviation: their standard deviations, same shape.

        Returns:
            Shape (n, outputs), in the manifest's order.
        """
        inputs = [rows] if mean is None or deviation is None else [rows, mean, deviation]
        if self.batches or len(rows) == 1:
            return self._run(inputs)
        singly = [self._run([tensor[i : i + 1] for tensor in inputs]) for i in range(len(rows))]
        return np.concatenate(singly) if singly else np.zeros((0, len(self._output_names)), np.float32)

    def _run(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        fed = dict(zip(self._input_names, inputs, strict=True))
        return np.concatenate(self._session.run(self._output_names, fed), axis=1)

    def _keeps_its_bits(self) -> bool:
        """Try rows alone, together, and in another order and place."""
        listens = self.manifest.input.waveform is not None
        count, spread = (_PROBE_WAVEFORMS, _PROBE_LEVEL) if listens else (_PROBE_ROWS, 10.0)
        shape = (count, self.manifest.input.width)
        probe = [
            np.asarray(np.random.default_rng(seed).normal(0, spread, shape), np.float32)
            for seed in range(len(self._input_names))
        ]
        together = self._run(probe)
        if together.shape != (count, len(self._output_names)):
            raise ValueError(f"its outputs are of shape {together.shape}, not one number a row and output")
        alone = np.concatenate([self._run([p[i : i + 1] for p in probe]) for i in range(count)])
        backwards = self._run([p[::-1].copy() for p in probe])[::-1]
        return together.tobytes() == alone.tobytes() == backwards.tobytes()


def load_models(enabled: Collection[str], folders: Sequence[Path] = (), shipped: Path = SHIPPED) -> tuple[Model, ...]:
    """The shipped models that are to run, and the user's own.

    Args:
        enabled: names of shipped models.
        folders: of the user's models; each of them runs.
        shipped: a folder of model folders, each named like its model.

    Raises:
        ModelError: one cannot be used, two have the same name, or no shipped model has an enabled name.
    """
    there = {path.parent.name: path.parent for path in sorted(shipped.glob("*/model.toml"))}
    unknown = sorted(set(enabled) - set(there))
    if unknown:
        raise ModelError(f"processors.infer.enabled names {unknown}; the shipped models are {list(there)}")
    models: dict[str, Model] = {}
    for folder in (*(there[name] for name in there if name in enabled), *folders):
        model = Model(folder)
        name = model.manifest.name
        if name in models or (name in there and folder not in there.values()):
            raise ModelError(f"{folder}: there is a model named {name!r} already. Rename one of them.")
        models[name] = model
    return tuple(models.values())


def _inputs_of(manifest: Manifest) -> list[str]:
    if manifest.input.waveform is not None:
        return ["waveform"]
    return ["features", "mean", "deviation"] if manifest.baseline else ["features"]


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "model.toml"
    try:
        manifest = Manifest.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{path} is wrong: {wrong}") from error
    unknown = sorted(set(manifest.input.features) - set(NAMED_FEATURES))
    if unknown:
        raise ModelError(f"{path} asks for unknown features {unknown}; there are {sorted(NAMED_FEATURES)}")
    if not (folder / "CARD.md").is_file():
        raise ModelError(f"{folder} has no CARD.md: say there what the model does, from what, how well, and its limits")
    return manifest


def _open_session(folder: Path, manifest: Manifest) -> ort.InferenceSession:
    path = folder / "model.onnx"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path} is larger than 1 GiB")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.sha256:
        raise ModelError(f"{path} is not the file that model.toml names: its SHA-256 is {found}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base below Exception
        raise ModelError(f"{path} is no model that onnxruntime {ort.__version__} can run: {error}") from error


def _check_tensors(folder: Path, session: ort.InferenceSession, manifest: Manifest, input_names: list[str]) -> None:
    path = folder / "model.onnx"
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    if set(inputs) != set(input_names):
        raise ModelError(f"{path} takes {sorted(inputs)}; by model.toml it should take {sorted(input_names)}")
    width = manifest.input.width
    for name, tensor in inputs.items():
        if tensor.type != "tensor(float)" or len(tensor.shape) != 2 or tensor.shape[1] != width:
            raise ModelError(f"{path}: {name} is {tensor.type} {tensor.shape}; it should be tensor(float) (n, {width})")
        if isinstance(tensor.shape[0], int):
            raise ModelError(f"{path}: {name} has a fixed batch size of {tensor.shape[0]}; make it dynamic")
    missing = {output.name for output in manifest.outputs} - {tensor.name for tensor in session.get_outputs()}
    if missing:
        raise ModelError(f"{path} gives no {sorted(missing)}")
