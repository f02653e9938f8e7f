"""README's code runs as it stands, on files of one's own."""

import re
from pathlib import Path

import pytest

from nbkit import scores, world

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_check")
def test_the_code_for_your_own_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["prompt", "chosen", "rejected"]
    world.pairs(30).select_columns(texts).to_json("my_pairs.jsonl")
    world.pairs(12, part="validation").select_columns(texts).to_json("my_validation.jsonl")
    code = next(c for c in re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)
                if "my_pairs.jsonl" in c)  # fmt: skip
    there = {}
    exec(code.replace("Qwen/Qwen2.5-0.5B-Instruct", "world/small"), there)
    assert list(there["table"].index) == there["pairs"]["id"][:]
    assert there["run"].trained_on == there["loss"].nsmallest(15).index.tolist()
    band = scores.truncated(there["influence"], 0.15, 0.85)
    assert set(there["keep"]) == set(band.index[band == 1])
