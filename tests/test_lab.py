"""`nbkit lab`: one line of readiness, then JupyterLab on the lessons, with or without a browser."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from nbkit.__main__ import main
from nbkit.course import lab
from nbkit.course.errors import CommandError

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "--IdentityProvider.token=secret"


@pytest.fixture
def started(monkeypatch):
    """The commands that `nbkit lab` would have become."""
    commands = []
    monkeypatch.setattr(lab, "become", lambda command: commands.append(command) or 0)
    return commands


# --- the command line -----------------------------------------------------------------------


def test_readiness_is_one_line_and_further_options_reach_jupyterlab(started, capsys):
    options = ["--port", "9999", "--ip=0.0.0.0", "--debug"]
    assert main(["lab", *options]) == 0
    assert started[0][-4:] == options and started[0][1:3] == ["-m", "jupyterlab"]
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert re.match("(NOT )?READY", first) and lab.LANDING in second


def test_help_and_wrong_usage(capsys):
    for command in (["--help"], ["lab", "-h"], ["tour", "-h"], ["course", "build", "-h"]):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 0 and "usage: nbkit" in capsys.readouterr().out
    assert main([]) == 2 and "lab" in capsys.readouterr().out
    wrong = (["notebook"], ["tour", "--port", "9"], ["course"], ["course", "build", "--check"])
    for command in (*wrong, ["course", "build", "--text", "--readme"]):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 2 and "usage: nbkit" in capsys.readouterr().err


def test_the_console_script_is_declared():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'nbkit = "nbkit.__main__:main"' in text


# --- root, browser, notebooks ---------------------------------------------------------------


@pytest.mark.parametrize("user, allowed", [(0, True), (1000, False)])
def test_root_is_allowed_when_one_is_root(user, allowed, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    assert ("--allow-root" in lab.command(ROOT, [])) == allowed


@pytest.mark.parametrize(
    "platform, variable, opens",
    [("linux", None, False), ("linux", "DISPLAY", True), ("linux", "WAYLAND_DISPLAY", True),
     ("linux", "BROWSER", True), ("darwin", None, True), ("win32", None, True)],
)  # fmt: skip
def test_no_browser_is_looked_for_without_a_display(platform, variable, opens, monkeypatch):
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, ":0")
    monkeypatch.setattr(sys, "platform", platform)
    assert ("--no-browser" not in lab.command(ROOT, [])) == opens


def test_the_notebooks_of_the_clone_are_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert lab.notebooks() == ROOT / "notebooks"


def test_an_installed_nbkit_finds_the_notebooks_of_the_clone_one_is_in(monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "CLONE", tmp_path / "site-packages")
    for folder in (ROOT, ROOT / "notebooks"):
        monkeypatch.chdir(folder)
        assert lab.notebooks() == ROOT / "notebooks"


def test_a_landing_page_of_others_is_not_taken_for_ours(monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "CLONE", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    (tmp_path / lab.LANDING).touch()
    with pytest.raises(CommandError, match="nbkit's repository"):
        lab.notebooks()


def test_without_the_notebooks_it_says_where_they_are(monkeypatch, tmp_path, capsys, started):
    monkeypatch.setattr(lab, "CLONE", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert main(["lab"]) == 1 and not started
    said = capsys.readouterr().err
    assert "nbkit's repository" in said and "`nbkit tour`" in said and said.count("\n") == 1


def test_without_jupyterlab_it_says_what_to_install(monkeypatch, started):
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CommandError, match="JupyterLab is not installed.*pip install -e ."):
        lab.lab([])
    assert not started


def test_on_windows_control_c_is_left_to_jupyterlab(monkeypatch):
    answers = [KeyboardInterrupt(), 3]

    class Process:
        def wait(self):
            answer = answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(subprocess, "Popen", lambda command: Process())
    assert lab.become(["jupyter"]) == 3


# --- the real thing -------------------------------------------------------------------------


@pytest.mark.slow
def test_jupyterlab_answers_with_the_landing_page_and_lists_lessons_only(tmp_path):
    """From another folder, as whoever runs the tests; the last of two values of an option holds."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "nbkit", "lab", "--no-browser", TOKEN, "--port=18888"]
    with open(log, "w") as out:
        server = subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        address = wait_for_address(server, log)
        assert address.endswith(f"/lab/tree/{lab.LANDING}")
        assert "JupyterLab" in read(f"{address}?token=secret")
        base = address.partition("/lab/")[0]
        listed = json.loads(read(f"{base}/api/contents?token=secret"))["content"]
        names = {entry["name"] for entry in listed}
        assert lab.LANDING in names
        assert all(re.fullmatch(r"\d\d_\w+\.ipynb", name) for name in names - {lab.LANDING})
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for_address(server, log, seconds=120):
    """The address in the server's log."""
    for _ in range(seconds * 2):
        found = re.search(r"(http://localhost:\d+\S*?)\?token=", log.read_text())
        if found:
            return found[1]
        assert server.poll() is None, log.read_text()
        time.sleep(0.5)
    raise AssertionError(f"no address after {seconds} s:\n{log.read_text()}")


def read(address):
    for _ in range(20):
        try:
            with urlopen(address, timeout=30) as page:
                return page.read().decode()
        except URLError:
            time.sleep(0.5)
    raise AssertionError(f"{address} does not answer")
