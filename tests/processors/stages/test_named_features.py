from __future__ import annotations

import numpy as np
import opensmile
import pytest

from callscope.feature_sets import EGEMAPS_FUNCTIONALS
from processors.stages.named_features import NAMED_FEATURES, voiced_s
from tests.processors.stages.test_infer import utterance, window


def test_the_functionals_have_openSMILEs_names_in_its_order() -> None:
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    assert tuple(smile.feature_names) == EGEMAPS_FUNCTIONALS


def test_every_functional_is_a_named_feature() -> None:
    spoken = utterance(0)
    assert [NAMED_FEATURES[name](spoken) for name in EGEMAPS_FUNCTIONALS] == spoken.functionals.tolist()
    assert {NAMED_FEATURES[name](window()) for name in EGEMAPS_FUNCTIONALS} == {None}


def test_the_fields_of_the_summary_are_named_features() -> None:
    spoken = window(pitch=30.0, loudness=0.1)
    assert NAMED_FEATURES["f0_mean"](spoken) == 30.0
    assert NAMED_FEATURES["loudness_db"](spoken) == pytest.approx(-10)
    assert NAMED_FEATURES["jitter_mean"](spoken) == 0.025
    assert NAMED_FEATURES["f0_mean"](window(pitch=None)) is None
    assert voiced_s(spoken) == 2.0


def test_no_functional_is_mistaken_for_a_field() -> None:
    assert len(NAMED_FEATURES) == len(np.unique(list(NAMED_FEATURES)))
