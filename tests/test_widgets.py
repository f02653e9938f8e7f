"""The slider's picture and table follow it; texts of pairs cannot become HTML."""

import struct
import time
from base64 import b64decode
from functools import partial
from html.parser import HTMLParser

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, concatenate_datasets

from nbkit import widgets
from nbkit.widgets.table import LONGEST

IDS = [f"p{number}" for number in range(10)]
SCORES = pd.Series(np.arange(10) / 10, index=IDS, name="validation_loss").sample(
    frac=1, random_state=0
)
FLIPPED = pd.Series([number >= 6 for number in range(10)], index=IDS, name="flipped")
PAIRS = Dataset.from_dict(
    {
        "id": IDS,
        "prompt": [f"prompt {number}" for number in range(10)],
        "chosen": [f"good {number}" for number in range(10)],
        "rejected": [f"bad {number}" for number in range(10)],
    }
)
CURVE = pd.DataFrame(
    [(share, seed, 0.5 + share / 10 + seed / 100) for share in (0.3, 0.6, 1.0) for seed in (0, 1)],
    columns=["share", "seed", "win_rate"],
)


class Reader(HTMLParser):
    """What a browser would make of it: tags with attributes, and the rows of the table."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.rows, self.caption = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.tags[-1][0] == "caption":
            self.caption += data
        elif self.rows:
            self.rows[-1][-1] += data


def parts(box):
    slider, picture, table = box.children
    return slider, picture, Reader(table.value)


def test_the_table_shows_the_pairs_around_the_cut():
    box = widgets.share_slider(SCORES, PAIRS, rows=2)
    slider, _, table = parts(box)
    assert slider.value == 0.5
    assert table.rows[0] == ["", "validation_loss", "prompt", "chosen", "rejected"]
    assert table.rows[1:] == [
        ["kept", "0.3", "prompt 3", "good 3", "bad 3"],
        ["kept", "0.4", "prompt 4", "good 4", "bad 4"],
        ["dropped", "0.5", "prompt 5", "good 5", "bad 5"],
        ["dropped", "0.6", "prompt 6", "good 6", "bad 6"],
    ]


def test_moving_the_slider_changes_picture_and_table():
    box = widgets.share_slider(SCORES, PAIRS, rows=1, marks=FLIPPED, show="chosen")
    slider, picture, _ = parts(box)
    before = picture.value
    slider.value = 0.8
    table = parts(box)[2]
    assert [row[3] for row in table.rows] == ["chosen", "good 7", "good 8"]
    assert [row[2] for row in table.rows] == ["flipped", "yes", "yes"]
    assert table.caption.startswith("80% kept")
    assert picture.value != before
    slider.value = 0.2
    assert [row[2:] for row in parts(box)[2].rows[1:]] == [["no", "good 1"], ["no", "good 2"]]


def test_the_ends_of_the_slider():
    box = widgets.share_slider(SCORES, PAIRS, rows=4)
    slider = box.children[0]
    slider.value = slider.max
    assert [row[0] for row in parts(box)[2].rows[1:]] == ["kept"] * 4
    assert [row[2] for row in parts(box)[2].rows[1:]] == [f"prompt {n}" for n in (6, 7, 8, 9)]
    slider.value = slider.min
    assert [row[0] for row in parts(box)[2].rows[1:]] == ["kept"] + ["dropped"] * 4


def test_only_the_first_dropped_row_has_the_cut_above_it():
    table = parts(widgets.share_slider(SCORES, PAIRS, rows=3))[2]
    cuts = ["dashed" in attributes["style"] for tag, attributes in table.tags
            if tag == "tr" and "style" in attributes]  # fmt: skip
    assert cuts == [False, False, False, True, False, False]


def hint(slider):
    """What is shown when the pointer rests on it: a trait with two names, by version."""
    version = int(ipywidgets.__version__.split(".")[0])
    return slider.tooltip if version > 7 else slider.description_tooltip


def png_size(picture):
    tags = Reader(picture.value).tags
    assert [tag for tag, _ in tags] == ["img"]
    kind, data = tags[0][1]["src"].split(",")
    assert kind == "data:image/png;base64"
    return struct.unpack(">II", b64decode(data)[16:24])


def test_the_picture_is_a_png_with_words_and_a_panel_for_the_curve():
    one = widgets.share_slider(SCORES, PAIRS).children[1]
    two = widgets.share_slider(SCORES, PAIRS, curve=CURVE, marks=FLIPPED).children[1]
    (width, height), (twice, same) = png_size(one), png_size(two)
    assert twice == 2 * width and same == height
    assert Reader(one.value).tags[0][1]["alt"] == (
        "Histogram of the scores: 5 of 10 pairs kept, 5 dropped."
    )
    assert plt.get_fignums() == []  # else the inline backend shows it a second time


def test_the_slider_can_be_read_and_waits_for_release():
    slider = widgets.share_slider(SCORES, PAIRS).children[0]
    assert "share of pairs kept" in slider.description and "arrow keys" in hint(slider)
    assert slider.continuous_update is False
    assert slider.style.description_width == "initial"  # else the description is cut off


def test_pairs_without_a_score_are_not_there():
    scores = SCORES.copy()
    scores["p4"] = np.nan
    with pytest.warns(UserWarning, match="1 of 10 pairs are left out: .*'p4': no validation") as w:
        box = widgets.share_slider(scores, PAIRS, rows=9)
        box.children[0].value = 0.8
    assert len(w) == 1 and w[0].filename == __file__
    box.children[0].value = 0.5
    assert "prompt 4" not in [row[2] for row in parts(box)[2].rows]
    assert "of 9 pairs kept" in box.children[1].value


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table><b>&amp;"]


@pytest.mark.parametrize("text", HOSTILE)
def test_everything_is_escaped(text):
    pairs = PAIRS.remove_columns(["prompt"]).add_column("prompt", [text] * 10)
    pairs = pairs.add_column(text, [text] * 10)
    box = widgets.share_slider(
        SCORES.rename(text), pairs, marks=FLIPPED.rename(text), show=["prompt", text]
    )
    table = parts(box)[2]
    ours = {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in table.tags} == ours
    assert table.rows[0] == ["", text, text, "prompt", text]
    assert all(row[3:] == [text, text] for row in table.rows[1:])
    assert "<script" not in box.children[2].value


def test_conversations_are_shown_as_text():
    prompt = [
        {"role": "user", "content": "hello <b>"},
        {"role": "assistant", "content": "yes ?"},
        {"role": "user", "content": "pet of mia ?"},
    ]
    pairs = Dataset.from_list(
        [
            {"id": pair_id, "prompt": prompt, "chosen": [{"role": "assistant", "content": "dog"}]}
            for pair_id in IDS
        ]
    )
    table = parts(widgets.share_slider(SCORES, pairs, show=("prompt", "chosen")))[2]
    assert table.rows[1][2:] == ["user: hello <b>\nassistant: yes ?\nuser: pet of mia ?", "dog"]


def test_columns_of_any_kind_are_shown_as_text():
    """Tags as a list of texts, lists without an end, and messages with more than their content."""
    pairs = PAIRS.add_column("tags", [["math", "<b>"]] * 10)
    pairs = pairs.add_column("none", [None] * 10).add_column("empty", [[]] * 10)
    pairs = pairs.add_column("facts", [{"source": "web"}] * 10).add_column("n", list(range(10)))
    pairs = pairs.add_column("turns", [[{"from": "human", "value": "hello"}]] * 10)
    show = ["tags", "none", "empty", "facts", "n", "turns"]
    table = parts(widgets.share_slider(SCORES, pairs, show=show))[2]
    told = ["math\n<b>", "None", "", "{'source': 'web'}", "1"]
    assert table.rows[1][2:7] == told and "hello" in table.rows[1][7]


def test_pairs_may_come_as_a_data_frame():
    from_frame = parts(widgets.share_slider(SCORES, PAIRS.to_pandas()))[2]
    assert from_frame.rows == parts(widgets.share_slider(SCORES, PAIRS))[2].rows


def test_long_texts_are_shortened():
    pairs = PAIRS.remove_columns(["prompt"]).add_column("prompt", ["x" * 10_000] * 10)
    text = parts(widgets.share_slider(SCORES, pairs))[2].rows[1][2]
    assert text == "x" * (LONGEST - 1) + "…"


def test_impossible_input_is_refused_at_once():
    with pytest.raises(TypeError, match="scores as a pandas Series indexed by pair id, got list"):
        widgets.share_slider([1.0], PAIRS)
    with pytest.raises(TypeError, match="expected preference pairs, got a float"):
        widgets.share_slider(SCORES, 0.5)
    with pytest.raises(ValueError, match="pairs holds pair 'p0' more than once"):
        widgets.share_slider(SCORES, concatenate_datasets([PAIRS, PAIRS.select([0])]))
    with pytest.raises(TypeError, match="validation_loss of pair '.*' is '.*'; expected numbers"):
        widgets.share_slider(SCORES.astype(str), PAIRS)
    with pytest.raises(ValueError, match=r"\['answer'\] are missing in the pairs. Came: \['id'"):
        widgets.share_slider(SCORES, PAIRS, show=("prompt", "answer"))
    with pytest.raises(ValueError, match=r"4 of 10 scored pairs are not in `pairs`: \['p6', 'p7'"):
        widgets.share_slider(SCORES, PAIRS.select(range(6)))
    for rows in (0, 2.5, True):
        with pytest.raises((TypeError, ValueError), match=f"rows={rows}; expected a whole number"):
            widgets.share_slider(SCORES, PAIRS, rows=rows)
    with pytest.raises(ValueError, match="every score is NaN"), pytest.warns(UserWarning):
        widgets.share_slider(SCORES * np.nan, PAIRS)
    with pytest.raises(ValueError, match=r"Columns \['seed'\] are missing"):
        widgets.share_slider(SCORES, PAIRS, curve=CURVE.drop(columns="seed"))
    with pytest.raises(TypeError, match="marks is int64; expected a boolean Series"):
        widgets.share_slider(SCORES, PAIRS, marks=FLIPPED.astype(int))
    for make in (widgets.share_slider, partial(widgets.weight_slider, EXPLICIT)):
        with pytest.raises(TypeError, match="marks is list; expected a boolean Series"):
            make(SCORES, PAIRS, marks=[True] * 10)
    assert plt.get_fignums() == []


# The weight of alignment potential ---------------------------------------------------------------

# The judge is surer of later pairs. The policy is decided on p9 (against the label) and p8, and on
# no other: with a weight they go, and p5 and p4 come.
EXPLICIT = pd.Series([1.0 + n for n in range(10)], index=IDS)
IMPLICIT = pd.Series([0.1, 0.2] * 4 + [5.0, -9.0], index=IDS).sample(frac=1, random_state=1)


def test_the_weight_brings_pairs_in_and_throws_others_out():
    box = widgets.weight_slider(EXPLICIT, IMPLICIT, PAIRS, marks=FLIPPED, show="chosen", rows=5)
    slider, picture, table = parts(box)
    assert slider.value == 1.0
    assert table.rows == [
        ["", "explicit", "implicit", "flipped", "chosen"],
        ["in", "6", "0.2", "no", "good 5"],
        ["in", "5", "0.1", "no", "good 4"],
        ["out", "10", "-9", "yes", "good 9"],
        ["out", "9", "5", "yes", "good 8"],
    ]
    assert table.caption.startswith("w = 1: 2 of 4 kept pairs are others")
    before = picture.value
    slider.value = 0.0
    assert parts(box)[2].rows[1:] == [] and "0 of 4 kept" in parts(box)[2].caption
    assert picture.value != before
    assert Reader(picture.value).tags[0][1]["alt"].startswith("The two margins of each pair, with")
    assert png_size(picture) == png_size(widgets.share_slider(SCORES, PAIRS).children[1])
    assert plt.get_fignums() == []


def test_a_weight_takes_no_longer_for_many_pairs():
    """The work grows as the pairs do: it once took 45 s a move at 60,000 of them."""
    took = []
    for count in (300, 30_000):
        ids = [f"q{number}" for number in range(count)]
        pairs = Dataset.from_dict({"id": ids, "chosen": ["?"] * count})
        draw = np.random.default_rng(0)
        margins = (pd.Series(draw.normal(size=count), ids) for _ in range(2))
        box = widgets.weight_slider(*margins, pairs, show="chosen")
        start = time.process_time()
        box.children[0].value = 2.0
        took.append(time.process_time() - start)
    assert took[1] < took[0] + 1.0, took


def test_margins_of_other_pairs_are_said_once_and_left_out():
    implicit = IMPLICIT.drop("p3").where(IMPLICIT.index.drop("p3") != "p5", np.nan)
    with pytest.warns(UserWarning) as said:
        box = widgets.weight_slider(EXPLICIT, implicit, PAIRS, share=3)
        box.children[0].value = 2.0
    told = [str(warning.message) for warning in said]
    assert len(told) == 2 and "'p3': only in The first margin" in told[0]
    assert "'p5': no alignment_potential (NaN)" in told[1]


def test_the_weights_table_shows_the_foremost_and_a_line_between_in_and_out():
    table = parts(widgets.weight_slider(EXPLICIT, IMPLICIT, PAIRS, rows=1, show="chosen"))[2]
    assert [row[-1] for row in table.rows[1:]] == ["good 5", "good 9"]
    cuts = ["dashed" in attributes["style"] for tag, attributes in table.tags
            if tag == "tr" and "style" in attributes]  # fmt: skip
    assert cuts == [False, True]


def test_the_weights_slider_can_be_read_and_waits_for_release():
    slider = widgets.weight_slider(EXPLICIT, IMPLICIT, PAIRS).children[0]
    assert "weight of the implicit margin" in slider.description and "arrow keys" in hint(slider)
    assert slider.continuous_update is False
    assert slider.style.description_width == "initial"


def test_the_weights_slider_refuses_what_it_cannot_draw():
    with pytest.raises(TypeError, match="scores as a pandas Series indexed by pair id, got list"):
        widgets.weight_slider(EXPLICIT, [1.0], PAIRS)
    with pytest.raises(ValueError, match=r"4 of 10 scored pairs are not in `pairs`: \['p6', 'p7'"):
        widgets.weight_slider(EXPLICIT, IMPLICIT, PAIRS.select(range(6)))
    with pytest.raises(ValueError, match="have no pair in common"):
        widgets.weight_slider(EXPLICIT, IMPLICIT.rename("{}-2".format), PAIRS)
    with pytest.raises(ValueError, match="rows=0; expected a whole number"):
        widgets.weight_slider(EXPLICIT, IMPLICIT, PAIRS, rows=0)
    with pytest.raises(ValueError, match="share=2.0"):
        widgets.weight_slider(EXPLICIT, IMPLICIT, PAIRS, share=2.0)


# Percentile bands of two scores ------------------------------------------------------------------

FIRST = pd.Series(np.arange(10.0), IDS, name="LossDiff").sample(frac=1, random_state=2)
# In the middle of both: p5 and p6. High in the second: p3 and p7.
SECOND = pd.Series([0.1, 0.2, 1, 9, 6, 5, 4, 8, 3, 2], IDS, name="IRM")


def band_parts(box):
    first, second, picture, table = box.children
    return first, second, picture, Reader(table.value)


def test_the_bands_table_shows_the_middle_and_what_falls_out_at_each_end():
    box = widgets.band_sliders(FIRST, SECOND, PAIRS, marks=FLIPPED, show="chosen")
    first, second, picture, table = band_parts(box)
    assert first.value == second.value == (0.2, 0.8)
    assert table.rows == [
        ["", "LossDiff", "IRM", "flipped", "chosen"],
        ["kept", "5", "5", "no", "good 5"],  # p4 is nearer in the first, further in the second
        ["kept", "6", "4", "yes", "good 6"],
        ["LossDiff low", "0", "0.1", "no", "good 0"],
        ["LossDiff low", "1", "0.2", "no", "good 1"],
        ["LossDiff high", "9", "2", "yes", "good 9"],
        ["LossDiff high", "8", "3", "yes", "good 8"],
        ["IRM low", "0", "0.1", "no", "good 0"],
        ["IRM low", "1", "0.2", "no", "good 1"],
        ["IRM high", "3", "9", "no", "good 3"],
        ["IRM high", "7", "8", "yes", "good 7"],
    ]
    assert table.caption.startswith("40% kept")
    alt = Reader(picture.value).tags[0][1]["alt"]
    assert alt == "Percentiles of both scores of each pair: 4 of 10 pairs kept."
    assert plt.get_fignums() == []


def test_each_slider_moves_its_own_band():
    box = widgets.band_sliders(FIRST, SECOND, PAIRS, show="chosen", rows=9)
    first, second, picture, _ = band_parts(box)
    before = picture.value
    first.value = (0.0, 0.5)
    assert picture.value != before
    kept = [row[-1] for row in band_parts(box)[3].rows if row[0] == "kept"]
    assert sorted(kept) == ["good 2", "good 4"]  # of p0 to p4
    second.value = (0.0, 1.0)
    table = band_parts(box)[3]
    assert [row[0] for row in table.rows[1:]] == ["kept"] * 5 + ["LossDiff high"] * 5
    assert table.caption.startswith("50% kept")


def test_handles_that_meet_keep_nothing_and_come_apart_again():
    box = widgets.band_sliders(FIRST, SECOND, PAIRS)
    first, _, picture, _ = band_parts(box)
    first.value = (0.5, 0.5)
    assert "empty band" in box.children[3].value and picture.value == ""
    first.value = (0.2, 0.8)
    assert band_parts(box)[3].caption.startswith("40% kept") and picture.value
    first.value = (0.9, 1.0)  # p9 alone, which has a low second score
    band_parts(box)[1].value = (0.9, 1.0)
    assert band_parts(box)[3].caption.startswith("0% kept")


def test_the_bands_sliders_can_be_read_and_wait_for_release():
    for slider in band_parts(widgets.band_sliders(FIRST, SECOND, PAIRS))[:2]:
        assert slider.description.startswith("percentiles of") and "arrow keys" in hint(slider)
        assert slider.continuous_update is False
        assert slider.style.description_width == "initial"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_bands_table_is_escaped(text):
    pairs = PAIRS.remove_columns(["prompt"]).add_column("prompt", [text] * 10)
    box = widgets.band_sliders(FIRST.rename(text), SECOND, pairs, marks=FLIPPED.rename(text))
    table = band_parts(box)[3]
    ours = {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in table.tags} == ours
    assert table.rows[0][1] == table.rows[1][4] == text


def test_the_bands_sliders_refuse_what_they_cannot_draw():
    with pytest.raises(TypeError, match="scores as a pandas Series indexed by pair id, got list"):
        widgets.band_sliders(FIRST, [1.0], PAIRS)
    with pytest.raises(ValueError, match=r"4 of 10 scored pairs are not in `pairs`: \['p6', 'p7'"):
        widgets.band_sliders(FIRST.sort_index(), SECOND, PAIRS.select(range(6)))
    with pytest.raises(ValueError, match="low=0.8, high=0.2; expected shares"):
        widgets.band_sliders(FIRST, SECOND, PAIRS, low=0.8, high=0.2)
    with pytest.raises(ValueError, match="rows=0; expected a whole number"):
        widgets.band_sliders(FIRST, SECOND, PAIRS, rows=0)
    with pytest.raises(TypeError, match="marks is int64; expected a boolean Series"):
        widgets.band_sliders(FIRST, SECOND, PAIRS, marks=FLIPPED.astype(int))


def test_a_long_name_does_not_push_the_slider_off_the_page():
    first = widgets.band_sliders(FIRST.rename("x" * 500), SECOND, PAIRS).children[0]
    assert len(first.description) < 80
