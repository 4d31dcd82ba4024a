"""A model is a folder: `model.onnx`, `model.toml` that says what it takes and gives, and a card for people.

::

    name = "arousal"
    version = "1.0.0"
    sha256 = "…"                # of model.onnx
    licence = "Apache-2.0"
    source = "where its method or data come from"
    policy = "emotion"          # runs only on the legs that `infer.emotion_legs` names; "any": on every leg

    [input]
    features = ["f0_mean"]      # names of processors/stages/named_features.py
    min_voiced_s = 0.3          # a window with less voiced speech gives no value

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
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from callscope.errors import ModelError
from processors.stages.named_features import NAMED_FEATURES

SHIPPED = Path(__file__).parent.parent / "models"
"""The folder of the models that come with Callscope."""

_MAX_BYTES = 1 << 30
_PROBE_ROWS = 33
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Part):
    """What a model is given of each window."""

    features: tuple[str, ...] = Field(min_length=1)
    min_voiced_s: float = Field(0.0, ge=0)


class BaselineNeed(_Part):
    """How much must be known of the speaker before a model says anything."""

    min_voiced_s: float = Field(gt=0)


class OutputSpec(_Part):
    """One number that a model gives, and the range it lies in."""

    name: _Name
    unit: str = ""
    low: float
    high: float


class Manifest(_Part):
    """`model.toml`."""

    name: _Name
    version: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = Field(min_length=1)
    source: str = Field(min_length=1)
    policy: Literal["emotion", "any"]
    input: Input
    baseline: BaselineNeed | None = None
    outputs: tuple[OutputSpec, ...] = Field(min_length=1)


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
        self._input_names = ["features", "mean", "deviation"] if self.manifest.baseline else ["features"]
        _check_tensors(folder, self._session, self.manifest, self._input_names)
        try:
            self.batches = self._keeps_its_bits()
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            raise ModelError(f"{folder}: model.onnx failed on a trial batch: {error}") from error

    def run(
        self,
        features: NDArray[np.float32],
        mean: NDArray[np.float32] | None = None,
        deviation: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """The outputs of each row.

        Args:
            features: shape (n, features), in the manifest's order.
            mean: the speaker's usual values, same shape; for models with a baseline.
            deviation: their standard deviations, same shape.

        Returns:
            Shape (n, outputs), in the manifest's order.
        """
        inputs = [features] if mean is None or deviation is None else [features, mean, deviation]
        if self.batches or len(features) == 1:
            return self._run(inputs)
        rows = [self._run([tensor[i : i + 1] for tensor in inputs]) for i in range(len(features))]
        return np.concatenate(rows) if rows else np.zeros((0, len(self._output_names)), np.float32)

    def _run(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        fed = dict(zip(self._input_names, inputs, strict=True))
        return np.concatenate(self._session.run(self._output_names, fed), axis=1)

    def _keeps_its_bits(self) -> bool:
        """Try rows alone, together, and in another order and place."""
        shape = (_PROBE_ROWS, len(self.manifest.input.features))
        probe = [
            np.asarray(np.random.default_rng(seed).normal(0, 10, shape), np.float32)
            for seed in range(len(self._input_names))
        ]
        together = self._run(probe)
        if together.shape != (_PROBE_ROWS, len(self._output_names)):
            raise ValueError(f"its outputs are of shape {together.shape}, not one number a row and output")
        alone = np.concatenate([self._run([p[i : i + 1] for p in probe]) for i in range(_PROBE_ROWS)])
        backwards = self._run([p[::-1].copy() for p in probe])[::-1]
        return together.tobytes() == alone.tobytes() == backwards.tobytes()


def load_models(folders: Sequence[Path], shipped: Path = SHIPPED) -> tuple[Model, ...]:
    """The shipped models and the user's own.

    Args:
        folders: of the user's models.
        shipped: a folder of model folders.

    Raises:
        ModelError: one cannot be used, or two have the same name.
    """
    models: dict[str, Model] = {}
    for folder in (*sorted(path.parent for path in shipped.glob("*/model.toml")), *folders):
        model = Model(folder)
        if model.manifest.name in models:
            raise ModelError(f"{folder}: there is a model named {model.manifest.name!r} already. Rename one of them.")
        models[model.manifest.name] = model
    return tuple(models.values())


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
    width = len(manifest.input.features)
    for name, tensor in inputs.items():
        if tensor.type != "tensor(float)" or len(tensor.shape) != 2 or tensor.shape[1] != width:
            raise ModelError(f"{path}: {name} is {tensor.type} {tensor.shape}; it should be tensor(float) (n, {width})")
        if isinstance(tensor.shape[0], int):
            raise ModelError(f"{path}: {name} has a fixed batch size of {tensor.shape[0]}; make it dynamic")
    missing = {output.name for output in manifest.outputs} - {tensor.name for tensor in session.get_outputs()}
    if missing:
        raise ModelError(f"{path} gives no {sorted(missing)}")
