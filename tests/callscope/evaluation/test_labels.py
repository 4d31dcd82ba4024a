from __future__ import annotations

from pathlib import Path

import pytest

from callscope.errors import BadEvaluation
from callscope.evaluation.label_files import LabelSource, read, read_spans
from callscope.evaluation.labels import BadLabels, Labels, Tag, Utterance, from_name, leg_of, parse_csv, parse_webvtt


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.rttm", "SPEAKER a 1 1.0 0.5 <NA> <NA> x <NA> <NA>\nSPEAKER a 1 1.2 0.8 <NA> <NA> y <NA> <NA>\n"),
        ("a.csv", "start,end,label\n1.0,2.0,speech\n2.0,2.5,0\n"),
        ("a.csv", "file;start;end\na.wav;1.0;1.5\na.wav;1.5;2\nb.wav;7;8\n"),
        ("a.csv", "1.0,2.0\n"),
        ("a.txt", "1.000000\t2.000000\tspeech\n\\\t300.0\t3000.0\n"),
        ("a.lab", "1.0 2.0 voice\n\n"),
        ("a.scv", "a,0,1.0,0,1.0,2.0,1"),
        ("a.vtt", "WEBVTT\n\n1\n00:01.000 --> 00:00:02.000\n<v Agent>Hello.\n\nNOTE 00:05.000 --> 00:06.000\n"),
    ],
)
def test_reads_labels(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_spans(tmp_path / name) == ((1.0, 2.0),)


def test_a_csv_says_more_than_where_speech_is() -> None:
    text = "file,leg,start,end,emotion,arousal,condition,speaker\nx.wav,agent,1,2,anger,0.8,office,s1\n,,,,,,,\n"
    (labels,) = parse_csv(text).by_name.values()
    span = (1.0, 2.0)
    assert labels == Labels(
        None, (Tag("emotion", "anger", span, "agent"), Tag("arousal", "0.8", span, "agent")), "office", "s1"
    )


def test_a_csv_may_label_both() -> None:
    labels = parse_csv("call,label,start,end,leg,emotion\nx,speech,1,2,1,joy\nx,noise,3,4,1,\n").by_name["x"]
    assert labels.utterances == (Utterance((1.0, 2.0), "", "1"),)
    assert labels.tags == (Tag("emotion", "joy", (1.0, 2.0), "1"),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("start,end,label\n2,1,speech\n", "row 2: start '2' and end '1'"),
        ("start,end,label\n,,speech\n", "row 2 has no start and end"),
        ("file,start,end\na,1,2\n,3,4\n", "some rows name a file"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said(text: str, complaint: str) -> None:
    with pytest.raises(BadLabels, match=complaint):
        parse_csv(text)


def test_what_is_wrong_in_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 soon\n")
    (tmp_path / "a.vtt").write_text("00:01.000 --> 00:02.000\n")
    for name, complaint in (("a.rttm", "line 1"), ("a.vtt", "WEBVTT"), ("a.xml", "should end in")):
        with pytest.raises(BadEvaluation, match=complaint) as told:
            read(tmp_path / name)
        assert name in str(told.value)


def test_the_voices_of_a_cue_are_its_speakers() -> None:
    (labels,) = [parse_webvtt("WEBVTT\n\n01:00:01,500 --> 01:00:02.000\n<v agent>Yes.</v> <v customer>No.\n").anyone]
    assert labels is not None
    assert labels.utterances == (Utterance((3_601.5, 3_602.0), "agent"), Utterance((3_601.5, 3_602.0), "customer"))


def test_legs_by_name_and_by_channel() -> None:
    legs = ("customer", "agent")
    assert [leg_of(said, legs) for said in ("agent", "1", "2", "3", "MEE068", "")] == [
        "agent", "customer", "agent", None, None, None
    ]  # fmt: skip
    assert leg_of("whoever", ("customer",)) == "customer"
    labels = Labels((Utterance((0.0, 1.0), "x", "2"), Utterance((0.5, 2.0), "agent")))
    assert labels.legs(legs) == {"customer": (), "agent": ((0.0, 2.0),)}
    with pytest.raises(BadLabels, match=r"labelled for 'x'; the legs are customer, agent.*--mono"):
        Labels((Utterance((0.0, 1.0), "x"),)).legs(legs)
    assert Labels().legs(legs) is None


def test_labels_from_a_name() -> None:
    pattern = r"(?P<speaker>\d\d)...(?P<emotion>[WFTN])"
    assert from_name(pattern, "03a01Wa") == Labels(None, (Tag("emotion", "W"),), "", "03")
    assert from_name(pattern, "notes") is None
    for wrong, complaint in (("(", "no regular expression"), (".*", "no named group")):
        with pytest.raises(BadLabels, match=complaint):
            from_name(wrong, "x")


def test_where_labels_are_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.rttm").write_text("SPEAKER other 1 1 1 <NA> <NA> x <NA> <NA>\n")
    (tmp_path / "deep" / "b.csv").write_text("start,end\n1,2\n")
    (tmp_path / "labels.csv").write_text("file,emotion\nc,W\n")
    (tmp_path / "conditions.csv").write_text("file,condition\na.wav,office\n")
    source = LabelSource(str(tmp_path), tmp_path / "conditions.csv", {"W": "anger"})
    assert source.of("a") == Labels((Utterance((1.0, 2.0), "x", "1"),), (), "office")
    assert source.of("b") is None
    assert source.of("b", tmp_path / "deep" / "b.wav") == Labels((Utterance((1.0, 2.0)),))
    assert source.of("c") == Labels(None, (Tag("emotion", "anger"),))
    assert source.of("d") is None
    with pytest.raises(BadEvaluation, match="no labels at"):
        LabelSource(str(tmp_path / "nowhere"))
