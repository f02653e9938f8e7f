"""Flipped and coin labels."""

import pytest

import nbkit as nb
from nbkit import world

TWINS = [f"{{}}{end}" for end in ("", "_score", "_writer", "_reward")]


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(200, seed=3)


def test_flipping_exchanges_all_twins_of_the_named_pairs_only(pairs):
    ids = pairs["id"][5:9]
    turned = nb.flip_labels(pairs, ids)
    assert turned["id"][:] == pairs["id"][:] and turned.features == pairs.features
    for before, after in zip(pairs, turned):
        sides = ("rejected", "chosen") if before["id"] in ids else ("chosen", "rejected")
        for twin in TWINS:
            got = [after[twin.format(side)] for side in ("chosen", "rejected")]
            assert got == [before[twin.format(side)] for side in sides]
        assert all(after[name] == before[name] for name in ("prompt", "rung", "flipped"))
    assert nb.flip_labels(turned, ids).to_list() == pairs.to_list()
    assert pairs.to_list() == world.pairs(200, seed=3).to_list()  # the original is as it was


def test_conversations_are_flipped_too():
    rows = [dict(prompt=f"{q} ?", chosen="yes", rejected="no") for q in "ab"]
    talks = nb.load_pairs(rows, chat=True)
    turned = nb.flip_labels(talks, [talks["id"][1]])
    assert turned[1]["chosen"] == talks[1]["rejected"] and turned[0] == talks[0]


def test_a_coin_decides_every_label(pairs):
    turned = nb.coin_labels(pairs, seed=1)
    changed = [a["chosen"] != b["chosen"] for a, b in zip(pairs, turned)]
    assert 0.38 < sum(changed) / len(changed) < 0.62
    assert turned.to_list() == nb.coin_labels(pairs, seed=1).to_list()
    assert turned["chosen"][:] != nb.coin_labels(pairs, seed=2)["chosen"][:]


def test_unknown_ids_are_named(pairs):
    with pytest.raises(ValueError, match="1 of the 2 ids to flip are not in the pairs .one: 'x'"):
        nb.flip_labels(pairs, [pairs["id"][0], "x"])
