from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from callscope.errors import ModelError
from callscope.feature_sets import EGEMAPS_FUNCTIONALS
from processors.stages.model import SHIPPED, Model, load_models
from tools import build_models

AROUSAL = Model(SHIPPED / "arousal")
FLOORS = np.array([1.5, 1.0, 1.5, 1.5])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "arousal", tmp_path / "mine"))


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "model.toml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def put(folder: Path, content: bytes) -> None:
    """Replace model.onnx, and its checksum."""
    old = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "model.onnx").write_bytes(content)
    edit(folder, old, hashlib.sha256(content).hexdigest())


def tiny(batch: str | int = "batch", width: int = 4, output: str = "arousal") -> bytes:
    """Mean over the features of `features + mean + deviation`."""
    names = ("features", "mean", "deviation")
    graph = helper.make_graph(
        [
            helper.make_node("Sum", names, ["sum"]),
            helper.make_node("ReduceMean", ["sum"], [output], axes=[1], keepdims=1),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width]) for name in names],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def rows(n: int, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 5, (n, 4)).astype(np.float32) for _ in range(2)] + [
        np.abs(rng.normal(0, 3, (n, 4))).astype(np.float32)
    ]


SHIPPED_POLICIES = {"arousal": "emotion", "emotion": "emotion", "stress": "emotion", "voice-quality": "health"}


def test_the_shipped_models_load_and_keep_their_bits_in_any_batch() -> None:
    models = load_models(list(SHIPPED_POLICIES))
    assert {model.manifest.name: model.manifest.policy for model in models} == SHIPPED_POLICIES
    assert all(model.batches for model in models)


def test_only_enabled_models_are_loaded() -> None:
    assert [model.manifest.name for model in load_models(["stress", "arousal"])] == ["arousal", "stress"]
    assert load_models([]) == ()
    with pytest.raises(ModelError, match=r"enabled names \['joy'\]; the shipped models are \['arousal', 'emotion'"):
        load_models(["joy"])


def test_arousal_is_the_formula_of_its_card() -> None:
    features, mean, deviation = rows(50)
    z = (features - mean) / np.maximum(deviation, FLOORS)
    expected = 0.5 + 0.5 * (np.tanh(z * [1, 1, 1, -1] / 3) @ [2 / 6, 2 / 6, 1 / 6, 1 / 6])
    arousal = AROUSAL.run(features, mean, deviation)
    assert arousal.shape == (50, 1)
    assert arousal[:, 0] == pytest.approx(expected, abs=1e-6)
    assert (arousal >= 0).all()
    assert (arousal <= 1).all()


def test_the_usual_is_in_the_middle_even_for_a_flat_baseline() -> None:
    usual = np.array([[25, -3, -8, 15]], np.float32)
    flat = np.zeros((1, 4), np.float32)
    assert AROUSAL.run(usual, usual, flat) == pytest.approx(0.5)
    slightly_up = usual + np.array([[0.5, 0.3, 0.5, -0.5]], np.float32)
    assert 0.5 < float(AROUSAL.run(slightly_up, usual, flat)[0, 0]) < 0.6


@given(st.integers(1, 70), st.randoms(use_true_random=False))
def test_a_row_has_the_same_bits_in_any_company(n: int, random: object) -> None:
    inputs = rows(70)
    together = AROUSAL.run(*inputs)
    some = list(range(70))
    random.shuffle(some)  # type: ignore[attr-defined]  # hypothesis' Random
    company = AROUSAL.run(*(tensor[some[:n]] for tensor in inputs))
    assert company.tobytes() == together[some[:n]].tobytes()


def test_a_model_that_depends_on_company_runs_row_by_row(folder: Path) -> None:
    """Its output is the row's sum less the batch's mean: 0 for a row alone."""
    names = ("features", "mean", "deviation")
    nodes = [
        helper.make_node("Sum", names, ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["row"], axes=[1], keepdims=1),
        helper.make_node("ReduceMean", ["row"], ["all"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["row", "all"], ["arousal"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in names]
    output = helper.make_tensor_value_info("arousal", TensorProto.FLOAT, ["n", 1])
    model = helper.make_model(
        helper.make_graph(nodes, "company", inputs, [output]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    put(folder, model.SerializeToString())
    loaded = Model(folder)
    assert not loaded.batches
    assert loaded.run(*rows(5)).tolist() == [[0.0]] * 5


def without_manifest(folder: Path) -> None:
    (folder / "model.toml").unlink()


def without_model(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def changed(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (without_manifest, "model.toml cannot be read"),
    "no model": (without_model, "model.onnx cannot be read"),
    "another file": (changed, "not the file that model.toml names: its SHA-256 is"),
    "no TOML": (lambda f: edit(f, "[input]", "[input"), "model.toml cannot be read"),
    "misspelt key": (lambda f: edit(f, "licence", "license"), "licence: Field required; license: Extra inputs"),
    "policy": (lambda f: edit(f, 'policy = "emotion"', 'policy = "never"'), "policy: Input should be"),
    "feature": (lambda f: edit(f, "f0_mean", "f0_median"), r"unknown features \['f0_median'\]; there are"),
    "no baseline": (
        lambda f: edit(f, "[baseline]\nmin_voiced_s = 5.0", ""),
        r"takes \['deviation', 'features', 'mean'\]; by model.toml it should take \['features'\]",
    ),
    "no ONNX": (lambda f: put(f, b"nonsense"), "no model that onnxruntime"),
    "no card": (lambda f: (f / "CARD.md").unlink(), "has no CARD.md"),
    "range": (lambda f: edit(f, "high = 1.0", "high = 0.0"), "low must be below high"),
    "no input": (lambda f: edit(f, 'features = ["', 'kinds = ["window"]\n#'), 'either "features" or a "waveform"'),
    "both inputs": (lambda f: edit(f, "[baseline]", "[input.waveform]\nlength_s = 1.0\n[baseline]"), "one of them"),
    "kind": (lambda f: edit(f, "[input]", '[input]\nkinds = ["call"]'), "kinds.0: Input should be"),
    "outputs": (
        lambda f: edit(f, "[[outputs]]", '[[outputs]]\nname = "arousal"\nlow = 0\nhigh = 1\n[[outputs]]'),
        "two outputs have the same name",
    ),
    "width": (lambda f: put(f, tiny(width=5)), r"should be tensor\(float\) \(n, 4\)"),
    "fixed batch": (lambda f: put(f, tiny(batch=1)), "fixed batch size of 1"),
    "output": (lambda f: put(f, tiny(output="valence")), r"gives no \['arousal'\]"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_folder_is_refused_with_the_reason(folder: Path, what: str) -> None:
    spoil, reason = WRONG[what]
    spoil(folder)
    with pytest.raises(ModelError, match=reason) as refusal:
        Model(folder)
    assert str(folder) in str(refusal.value)


def test_users_add_models_by_their_folders(folder: Path) -> None:
    edit(folder, 'name = "arousal"\nversion', 'name = "mine"\nversion')
    assert [model.manifest.name for model in load_models(["arousal"], [folder])] == ["arousal", "mine"]
    assert [model.manifest.name for model in load_models([], [folder])] == ["mine"]


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="named 'arousal' already"):
        load_models([], [folder])
    edit(folder, 'name = "arousal"\nversion', 'name = "mine"\nversion')
    with pytest.raises(ModelError, match="named 'mine' already"):
        load_models([], [folder, folder])


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
def test_the_shipped_files_are_what_the_tool_builds(name: str) -> None:
    assert build_models.content_of(name) == (SHIPPED / name / "model.onnx").read_bytes()


def test_the_features_are_in_the_order_the_tool_builds_for() -> None:
    activation, departure = tuple(build_models.ACTIVATION), tuple(build_models.DEPARTURE)
    assert AROUSAL.manifest.input.features == activation
    assert Model(SHIPPED / "stress").manifest.input.features == activation + departure
    assert Model(SHIPPED / "voice-quality").manifest.input.features == departure
    assert Model(SHIPPED / "emotion").manifest.input.features == EGEMAPS_FUNCTIONALS


def test_stress_is_the_formula_of_its_card() -> None:
    rng = np.random.default_rng(3)
    features, mean = (rng.normal(0, 4, (60, 7)).astype(np.float32) for _ in range(2))
    deviation = np.abs(rng.normal(0, 3, (60, 7))).astype(np.float32)
    s = np.tanh((features - mean) / np.maximum(deviation, [*FLOORS, 0.0075, 0.15, 0.75]) / 3)
    activation = s[:, :4] @ [2 / 6, 2 / 6, 1 / 6, -1 / 6]
    expected = np.maximum(0, activation) * (1 + np.abs(s[:, 4:]).mean(axis=1)) / 2
    stress = Model(SHIPPED / "stress").run(features, mean, deviation)[:, 0]
    assert stress == pytest.approx(expected, abs=1e-6)
    assert (stress == 0).sum() > 10
    assert ((stress >= 0) & (stress <= 1)).all()


def test_voice_quality_is_its_measures_and_their_limits() -> None:
    (row,) = Model(SHIPPED / "voice-quality").run(np.array([[0.0208, 0.7, 5.0]], np.float32)).tolist()
    assert row == pytest.approx([2.08, 0.7, 5.0, 2.0, 2.0, 15.0], rel=1e-5)


def test_emotion_is_the_formula_of_its_card() -> None:
    trained = json.loads(build_models.EMOTION_WEIGHTS.read_text("utf-8"))
    x = np.random.default_rng(4).normal(trained["mean"], np.array(trained["scale"]) * 3, (40, 88)).astype(np.float32)
    z = np.clip((x - trained["mean"]) / trained["scale"], -4, 4)
    logits = z @ np.array(trained["weights"]).T + trained["bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    model = Model(SHIPPED / "emotion")
    assert [output.name for output in model.manifest.outputs] == trained["classes"]
    assert model.run(x) == pytest.approx(odds / odds.sum(axis=1, keepdims=True), abs=1e-4)


def listening(folder: Path, samples: int = 8_000, **waveform: float) -> Path:
    """Make the folder that of a model of the waveform: its output is the mean of the samples' squares."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["waveform", "waveform"], ["squares"]),
            helper.make_node("ReduceMean", ["squares"], ["power"], axes=[1], keepdims=1),
        ],
        "power",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", samples])],
        [helper.make_tensor_value_info("power", TensorProto.FLOAT, ["batch", 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    put(folder, model.SerializeToString())
    text = (folder / "model.toml").read_text("utf-8")
    head = text[: text.index("[input]")].replace('name = "arousal"', 'name = "power"')
    asked = "".join(f"{name} = {value}\n" for name, value in {"length_s": 0.5, **waveform}.items())
    outputs = '[[outputs]]\nname = "power"\nlow = 0.0\nhigh = 1.0\n'
    (folder / "model.toml").write_text(f"{head}[input.waveform]\n{asked}{outputs}", "utf-8")
    return folder


def test_a_model_may_hear_the_waveform(folder: Path) -> None:
    model = Model(listening(folder))
    assert model.manifest.input.width == model.manifest.input.waveform.length == 8_000  # type: ignore[union-attr]  # it has one
    assert model.run(np.full((2, 8_000), 0.5, np.float32)).tolist() == [[0.25], [0.25]]


def test_a_waveform_may_be_at_8_khz(folder: Path) -> None:
    asked = Model(listening(folder, samples=4_000, rate_hz=8_000)).manifest.input.waveform
    assert asked is not None
    assert (asked.width, asked.length) == (4_000, 8_000)


WRONG_WAVEFORMS: dict[str, tuple[Callable[[Path], None], str]] = {
    "rate": (lambda f: edit(f, "length_s = 0.5", "length_s = 0.5\nrate_hz = 44100"), "rate_hz: Input should be 8000"),
    "length": (lambda f: edit(f, "length_s = 0.5", "length_s = 1.0"), r"should be tensor\(float\) \(n, 16000\)"),
    "baseline": (
        lambda f: edit(f, "[[outputs]]", "[baseline]\nmin_voiced_s = 1.0\n[[outputs]]"),
        "can have no baseline",
    ),
    "windows": (lambda f: edit(f, "[input.waveform]", "[input]\nmin_voiced_s = 0.1\n[input.waveform]"), "has none"),
}


@pytest.mark.parametrize("what", WRONG_WAVEFORMS)
def test_a_wrong_model_of_the_waveform_is_refused_with_the_reason(folder: Path, what: str) -> None:
    spoil, reason = WRONG_WAVEFORMS[what]
    spoil(listening(folder))
    with pytest.raises(ModelError, match=reason):
        Model(folder)
