from __future__ import annotations

from pathlib import Path

import pytest

from bench.accuracy import count, losses, pipeline, read_folder
from callscope.config import Detect as DetectConfig
from callscope.config import load
from callscope.evaluation.in_process import Analysis
from callscope.evaluation.judgement import Judgement
from callscope.evaluation.label_files import LabelSource
from callscope.evaluation.labels import Labels
from callscope.evaluation.recordings import files_of, read_call
from callscope.evaluation.scoring import Scoring, facets_of
from callscope.evaluation.vad import measures
from callscope.streams import StreamId

AMI = Path(__file__).parents[3] / "shared" / "data" / "ami"


@pytest.mark.skipif(not AMI.exists(), reason="the recordings are not on this machine")
@pytest.mark.parametrize(("lost", "least_auc", "least_f1"), [(0.0, 0.98, 0.86), (0.05, 0.975, 0.82)])
def test_the_pipeline_on_ami(lost: float, least_auc: float, least_f1: float) -> None:
    judge = pipeline(DetectConfig())
    counted = []
    for recording in read_folder(AMI):
        gone = losses(recording, lost)
        counted.append(count(recording, gone, judge(recording.pcm, gone)))
    scores = measures(counted)
    assert scores["auc"] >= least_auc
    assert scores["f1"] >= least_f1


@pytest.mark.skipif(not AMI.exists(), reason="the recordings are not on this machine")
def test_callscope_eval_gives_the_figures_of_the_benchmark() -> None:
    judge = pipeline(DetectConfig())
    alike = [count(one, losses(one, 0.0), judge(one.pcm, losses(one, 0.0))) for one in read_folder(AMI)]
    analysis, source = Analysis(load(), models=False), LabelSource(str(AMI))
    run: dict[StreamId, Judgement] = {}
    labels: dict[str, Labels] = {}
    for path in files_of(AMI):
        run |= analysis.run(read_call(path, ("customer",), mono=False))
        labels[path.stem] = source.of(path.stem, path) or Labels()
    (vad,) = [facet for facet in facets_of(run, labels, Scoring()) if facet.name == "vad"]
    assert vad.measure(list(vad.tallies.values())) == measures(alike)
