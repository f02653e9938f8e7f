"""Profiles and readiness: sizes come from one switch, and a machine's faults get a remedy."""

import dataclasses
import importlib
import shutil
import sys
from collections import namedtuple
from importlib import metadata

import psutil
import pytest
import torch

from nbkit.course.machine import Line, Readiness, readiness
from nbkit.course.profiles import PROFILES, profile

module = importlib.import_module("nbkit.course.machine")


def line(what):
    found = [line for line in readiness().lines if line.what == what]
    assert len(found) == 1, f"{what}: {len(found)} lines"
    return found[0]


# --- profiles -------------------------------------------------------------------------------


def test_profile_is_full_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("NBKIT_PROFILE", raising=False)
    assert profile().name == "full"
    monkeypatch.setenv("NBKIT_PROFILE", "")
    assert profile().name == "full"
    monkeypatch.setenv("NBKIT_PROFILE", "gpu")
    assert profile().name == "gpu"
    assert profile("quick").name == "quick", "a name given beats the environment"


def test_profile_refuses_an_unknown_name_with_the_list(monkeypatch):
    with pytest.raises(
        ValueError, match="profile name is 'fast'; expected one of quick, full, gpu"
    ):
        profile("fast")
    monkeypatch.setenv("NBKIT_PROFILE", "Quick")
    with pytest.raises(
        ValueError, match="variable NBKIT_PROFILE is 'Quick'; expected one of quick"
    ):
        profile()


def test_pick_and_quick():
    assert profile("quick").pick(quick=1, full=2, gpu=3) == 1
    assert profile("full").pick(quick=1, full=2, gpu=3) == 2
    assert profile("gpu").pick(quick=1, full=2, gpu=3) == 3
    assert profile("gpu").pick(quick=1, full=2) == 2, "gpu falls back on full"
    assert profile("gpu").pick(quick=1, full=2, gpu=None) is None, "None is a value"
    assert [name for name in PROFILES if profile(name).quick] == ["quick"]


def test_quick_is_smaller_and_says_so():
    quick, full = profile("quick"), profile("full")
    assert quick.pairs < full.pairs and quick.prompts < full.prompts
    assert "too small to conclude" in quick.note and not full.note
    with pytest.raises(dataclasses.FrozenInstanceError):
        quick.pairs = 1


def test_the_tests_run_in_the_quick_profile():
    """conftest.py sets it before any notebook kernel starts."""
    assert profile().quick


# --- readiness ------------------------------------------------------------------------------


def test_this_environment_has_no_package_outside_its_window():
    packages = {"python", "torch", "transformers", "trl", "datasets", "pandas", "jupyterlab"}
    statuses = {line.what: line.status for line in readiness().lines}
    assert packages <= set(statuses)
    assert {statuses[name] for name in packages} == {"OK"}


@pytest.mark.parametrize("name, version", [("trl", "0.9.6"), ("torch", "3.0"), ("pandas", "2.1")])
def test_wrong_version_fails_with_the_window_and_the_remedy(monkeypatch, name, version):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda p: version if p == name else real(p))
    got = line(name)
    assert got.status == "FAIL"
    assert got.found.startswith(f"{version}, expected >=")
    assert "pip install -e ." in got.remedy
    assert not readiness().ok


def test_missing_package_and_old_python_fail(monkeypatch):
    def version(name):
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return "2.0"

    monkeypatch.setattr(metadata, "version", version)
    assert line("peft").found.startswith("not installed, expected >=")
    monkeypatch.setattr(module.platform, "python_version", lambda: "3.9.1")
    assert line("python").status == "FAIL"
    assert "new environment" in line("python").remedy


def test_what_only_an_extra_needs_is_a_note_when_its_version_does_not_fit(monkeypatch):
    real = metadata.version
    old = {"gguf": "0.6.0"}
    monkeypatch.setattr(metadata, "requires", lambda name: ['gguf>=0.10; extra == "gguf"'])
    about = {"Requires-Python": ">=3.11", "Provides-Extra": "gguf"}
    message = metadata.metadata("nbkit")
    for key, value in about.items():
        del message[key]
        message[key] = value
    monkeypatch.setattr(metadata, "metadata", lambda name: message)
    monkeypatch.setattr(metadata, "version", lambda name: old.get(name) or real(name))
    got = line("gguf [gguf]")
    assert got.status == "NOTE" and got.found == "0.6.0, expected >=0.10"
    assert '".[gguf]"' in got.remedy and readiness().ok
    old["gguf"] = "0.19.0"
    assert not any("gguf" in line.what for line in readiness().lines)

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert not any("gguf" in line.what for line in readiness().lines)


def test_a_torch_that_cannot_be_imported_fails_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    got = line("device")
    assert got.status == "FAIL" and "torch cannot be imported" in got.found and got.remedy
    assert not any(line.what == "what is slow" for line in readiness().lines)


def test_nbkit_itself_not_installed(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", absent)
    assert (line("nbkit").status, line("nbkit").remedy) == ("FAIL", module.REINSTALL)


@pytest.mark.parametrize("free, status", [(0.7e9, "FAIL"), (2e9, "NOTE"), (9e9, "OK")])
def test_memory(monkeypatch, free, status):
    Memory = namedtuple("Memory", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(free))
    got = line("memory")
    assert got.status == status and f"{free / 1e9:.1f} GB free" in got.found
    assert bool(got.remedy) == (status != "OK")


@pytest.mark.parametrize("free, status", [(0.1e9, "FAIL"), (3e9, "NOTE"), (50e9, "OK")])
def test_disk(monkeypatch, free, status):
    Disk = namedtuple("Disk", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(free))
    got = line("disk")
    assert got.status == status
    assert bool(got.remedy) == (status != "OK")


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert line("device").status == "NOTE" and "CPU" in line("device").found
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert "MPS" in line("device").found


def test_offline_switches_are_named_without_touching_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("readiness opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    for name in module.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert line("model hub").status == "OK"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    got = line("model hub")
    assert got.status == "NOTE" and "unset HF_HUB_OFFLINE" in got.remedy


def test_missing_world_weights_are_named(monkeypatch, tmp_path):
    for size in ("small", "large"):
        folder = tmp_path / "world" / "weights" / size
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path)
    got = line("world models")
    assert got.status == "FAIL" and got.found == "no weights for medium" and got.remedy


@pytest.mark.parametrize("rate, status", [(50e9, "NOTE"), (100e12, "OK")])
def test_speed_says_what_is_slow(monkeypatch, rate, status):
    monkeypatch.setattr(module, "_flops_per_second", lambda: rate)
    got = line("what is slow")
    assert got.status == status
    assert ("about 6.7 h" if status == "NOTE" else "about 12 s") in got.found


def test_text_and_html_carry_status_and_remedy_and_escape():
    bad = Readiness((Line("a", "OK", "1"), Line("b", "FAIL", "<script>", "do <this>")))
    assert not bad.ok
    assert "FAIL  b  <script>" in repr(bad) and "-> do <this>" in repr(bad)
    assert "NOT READY: 1 of 2" in repr(bad)
    page = bad._repr_html_()
    assert "&lt;script&gt;" in page and "do &lt;this&gt;" in page and "<script>" not in page
    good = Readiness((Line("a", "NOTE", "1", "x"),))
    assert good.ok and "READY: nothing" in repr(good)


def test_the_summary_is_one_line_with_the_first_remedy():
    fine, note = Line("a", "OK", "1"), Line("disk", "NOTE", "3 GB", "tidy up")
    bad, worse = Line("torch", "FAIL", "2.1, expected >=2.11", "run: x"), Line("b", "FAIL", "", "y")
    assert Readiness((fine,)).summary == "READY"
    assert (
        Readiness((fine, note)).summary
        == "READY, with 1 note (nb.course.readiness() explains): disk"
    )
    assert Readiness((note, bad)).summary == "NOT READY: torch: 2.1, expected >=2.11 -> run: x"
    assert "(1 more; nb.course.readiness() lists them)" in Readiness((bad, worse)).summary
    assert "\n" not in readiness().summary
