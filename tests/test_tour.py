"""`nbkit tour`: five steps with numbers in a terminal, and a figure."""

import os
import re
import subprocess
import sys

import pytest

from nbkit.__main__ import main

TITLES = ["1 Load", "2 Score", "3 Select", "4 Train", "5 Judge", "6 Luck?"]
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """The tour in a process of its own, in the quick profile, from an empty folder."""
    folder = tmp_path_factory.mktemp("tour")
    command = [sys.executable, "-m", "nbkit", "tour"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return folder, done


def test_the_tour_tells_every_step_with_a_number(taken):
    _, done = taken
    assert done.returncode == 0, done.stderr
    starts = [done.stdout.index(f"\n{title}") for title in TITLES]
    assert starts == sorted(starts)
    for start, end in zip(starts, [*starts[1:], done.stdout.index("Done in")], strict=True):
        step = done.stdout[start + 9 : end]
        assert re.search(r"\d", step) and "nan" not in step, step
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_the_tour_is_honest_about_what_it_shows(taken):
    _, done = taken
    text = " ".join(done.stdout.split())
    assert "in a random half, the control:" in text
    assert "One seed proves nothing" in text and "95% interval [" in text
    assert "too small to conclude" in text, "the quick profile says so"


def test_the_tour_writes_its_figure_and_says_where(taken):
    folder, done = taken
    figure = folder / "nbkit_tour.png"
    assert f"The figure: {figure}" in done.stdout
    assert figure.read_bytes().startswith(PNG) and figure.stat().st_size > 10_000
    assert os.listdir(folder) == ["nbkit_tour.png"], "nothing else is left"


def test_the_tour_says_what_to_open_next_and_libraries_are_quiet(taken):
    _, done = taken
    assert "nbkit lab" in done.stdout and "01_pairs_and_margins.ipynb" in done.stdout
    assert not done.stderr, "no warnings, no bars where nobody looks"


@pytest.mark.parametrize(
    "place, reason",
    [("there.pdf", "should end in .png"), ("no/folder/here.png", "cannot write"),
     ("taken.png", "is a folder")],
)  # fmt: skip
def test_a_figure_that_cannot_be_written_is_refused_before_the_work(
    place, reason, tmp_path, capsys, monkeypatch
):
    def work(*args, **kwargs):
        raise AssertionError("the work began")

    monkeypatch.setattr("nbkit.world.pairs", work)
    (tmp_path / "taken.png").mkdir()
    assert main(["tour", "--figure", str(tmp_path / place)]) == 1
    said = capsys.readouterr()
    assert reason in said.err and said.err.count("\n") == 1 and not said.out


def test_an_unknown_profile_is_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NBKIT_PROFILE", "fast")
    assert main(["tour", "--figure", str(tmp_path / "x.png")]) == 1
    assert "NBKIT_PROFILE is 'fast'" in capsys.readouterr().err


def test_an_old_figure_is_kept_until_the_new_one_is_there(tmp_path):
    from nbkit.course.tour import writable

    old = tmp_path / "old.png"
    old.write_bytes(b"old")
    assert writable(old) == old and old.read_bytes() == b"old"
    assert writable(tmp_path / "new.png") and not (tmp_path / "new.png").exists()


def test_a_disk_that_is_full_at_the_end_costs_the_figure_only(tmp_path, capsys, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert main(["tour", "--figure", str(tmp_path / "x.png")]) == 0
    said = capsys.readouterr().out
    assert "could not be written" in said and "No space left" in said and "nbkit lab" in said


def test_control_c_is_quiet(capsys, monkeypatch, tmp_path):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("nbkit.world.pairs", stop)
    assert main(["tour", "--figure", str(tmp_path / "x.png")]) == 130
    assert "stopped" in capsys.readouterr().err
