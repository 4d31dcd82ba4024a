"""Hypothesis strategies for the records that stages exchange."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from callscope.streams import StreamId
from processors.records import (
    ActivityKind,
    AudioFrame,
    Envelope,
    FeatureWindow,
    Insight,
    InsightsEnd,
    Ledger,
    Output,
    SpeechFrame,
    StreamStatistics,
    VoiceActivity,
    VoiceSummary,
    WindowKind,
)
from processors.stages.baseline import Baseline
from processors.wire import LLD_COLUMNS

names = st.text("abcXYZ019._:@+-", min_size=1, max_size=20)
streams = st.builds(StreamId, names, names)
samples = st.integers(0, 2**53)
counts = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False)
pcm = npst.arrays(np.int16, st.integers(0, 4).map(lambda frames: frames * 320))
float32s = st.floats(width=32, allow_nan=False)
texts = st.text(max_size=30)

audio_frames = st.builds(AudioFrame, streams, counts, samples, pcm, samples, st.booleans())
speech_frames = st.builds(SpeechFrame, streams, samples, samples, pcm, st.booleans(), st.booleans(), st.booleans())
activities = st.builds(
    VoiceActivity,
    streams,
    st.sampled_from(ActivityKind),
    samples,
    samples,
    st.booleans(),
    numbers,
    numbers,
    st.none() | samples,
    texts,
)
summaries = st.builds(
    VoiceSummary,
    numbers,
    st.none() | numbers,
    st.none() | numbers,
    numbers,
    st.none() | numbers,
    *[st.none() | numbers] * 8,
)
moments = st.builds(Baseline, numbers, st.tuples(numbers), st.tuples(numbers))
statistics = st.builds(StreamStatistics, counts, moments, moments, moments, moments)
feature_windows = st.builds(
    FeatureWindow,
    stream=streams,
    segment=samples,
    kind=st.sampled_from(WindowKind),
    start=samples,
    duration=samples,
    coverage=numbers,
    lookahead=samples,
    feature_set=texts,
    lld_first=samples,
    lld=npst.arrays(np.float32, st.tuples(st.integers(0, 3), st.just(LLD_COLUMNS)), elements=float32s),
    functionals=npst.arrays(np.float32, st.sampled_from([0, 88]), elements=float32s),
    summary=summaries,
    statistics=st.none() | statistics,
)
outputs = st.builds(Output, names, st.none() | numbers, texts, texts)
insights = st.builds(
    Insight,
    streams,
    samples,
    names,
    names,
    samples,
    samples,
    st.booleans(),
    samples,
    st.lists(outputs, max_size=3).map(tuple),
    texts,
)
insight_ends = st.builds(InsightsEnd, streams, samples)
ledgers = st.builds(Ledger, counts, counts, counts, counts, counts)
records = audio_frames | speech_frames | activities | feature_windows | insights | insight_ends
envelopes = st.builds(Envelope, records, ledgers)
