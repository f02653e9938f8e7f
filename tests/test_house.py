"""The house rules: imports go downward, and nothing in the repository is unsafe or private.

Each rule is a function from source text to a list of problems, so that it can be shown to find
the thing it forbids.
"""

import ast
import graphlib
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nbkit"
LESSONS = PACKAGE / "course" / "lessons"

# The rooms of the house, from the ground up: files or folders of nbkit/. A file imports from rooms
# below its own, and from other files of its own room. No two files import one another, by whatever
# way round.
ROOMS = [
    "world",
    "warning.py",
    "left_out.py",
    "pair_ids.py",
    "pairs",
    "models",
    "inputs.py",
    "tokens",
    "cache",
    "logprobs",
    "select",
    "estimates.py",
    "agreement.py",
    "derivatives",
    "sampling.py",
    "scores",
    "judges.py",
    "train",
    "evaluate.py",
    "experiments/arguments.py",
    "experiments/jobs.py",
    "experiments/kept.py",
    "experiments/crossfit.py",
    "experiments/gains.py",
    "experiments/trials.py",
    "experiments/judging.py",
    "experiments/comparison.py",
    "experiments/selfplay",
    "experiments",
    "plots",
    "widgets",
    "__init__.py",
    "course",
    "__main__.py",
]
MODULE_LINES, FUNCTION_LINES, CODE_LINES = 300, 60, 40
ONLY_IN = {
    "trl": "train/trainers.py",
    "ipywidgets": "widgets/",
    "seaborn": "plots/",
    "matplotlib": "plots/",
}
NOT_IMPORTED = {"accelerate", "jupyterlab"}  # transformers' Trainer needs one, `nbkit lab` runs one
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
PICKLING = {"torch.load", "torch.save", "joblib.load", "joblib.dump", "joblib.Memory"}
UNSAFE_CALLS = {*PICKLING, "read_pickle", "to_pickle", "eval", "exec"}
UNSAFE_ARGUMENTS = {"trust_remote_code": True, "allow_pickle": True, "weights_only": False}

MACHINE_PATH = re.compile(r"/(?:root|work)/\w|/home/\w|/Users/\w|\b[A-Z]:\\+Users|/opt/\w")
MERGE_MARKER = re.compile(r"^(?:<{7}|>{7}) \S", re.MULTILINE)
REGISTRY_HOST = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org|npmjs\.org", re.IGNORECASE
)


def modules():
    """The files of the package, but for the sources of lessons, which are not imported."""
    return sorted(p for p in PACKAGE.rglob("*.py") if LESSONS not in p.parents)


def room(file: str) -> int | None:
    """The number in ROOMS of a file of nbkit (a path from there); the most particular one."""
    fits = [name for name in ROOMS if file == name or file.startswith(f"{name}/")]
    return ROOMS.index(max(fits, key=len)) if fits else None


def file_of(name: str) -> str | None:
    """The file that an import of this dotted name of nbkit reads: a module's own, or that which
    holds the name."""
    parts = name.split(".")[1:]
    for end in range(len(parts), -1, -1):
        for file in (Path(*parts[:end]).with_suffix(".py") if end else None,
                     Path(*parts[:end], "__init__.py")):  # fmt: skip
            if file and (PACKAGE / file).is_file():
                return file.as_posix()
    return None


def imported(text: str, path: Path) -> list[str]:
    """Dotted names of all imports, function bodies included; relative ones made absolute."""
    package = ["nbkit", *path.relative_to(PACKAGE).parts[:-1]]
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def arrows(text: str, path: Path) -> list[str]:
    """The files of nbkit that a file imports."""
    names = [name for name in imported(text, path) if name.split(".")[0] == "nbkit"]
    return sorted({file for name in names if (file := file_of(name))})


def import_problems(text: str, path: Path) -> list[str]:
    """Imports from rooms above, through a folder's door instead of from the file itself, and of
    libraries outside the one room that may."""
    here = path.relative_to(PACKAGE).as_posix()
    if room(here) is None:
        return [f"{here} is in no room: give it a place in ROOMS of {Path(__file__).name}"]
    found = []
    for name in imported(text, path):
        library = name.split(".")[0]
        if not here.startswith(ONLY_IN.get(library, here)):
            found.append(f"{here} imports {name}; only {ONLY_IN[library]} may")
    kit = room(here) < room("__init__.py")
    for there in arrows(text, path):
        if room(there) > room(here):
            found.append(f"{here} imports from {there}, which lies above it")
        elif kit and there.endswith("__init__.py") and not inside(here, there):
            found.append(f"{here} imports through {there}; name the file that defines it")
    return found


def inside(file: str, door: str) -> bool:
    """Whether a file lies in the folder of this `__init__.py`, or is one itself."""
    return file.endswith("__init__.py") or file.startswith(door.removesuffix("__init__.py"))


def long_ones(text: str) -> list[str]:
    """A module too long to read at once, and functions that are: with their docstring, or, where
    that describes arguments, their code alone."""
    lines = len(text.splitlines())
    found = [f"{lines} lines, at most {MODULE_LINES}"] if lines > MODULE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        told, code = ast.get_docstring(node) or "", [node.body[0], node.body[-1]]
        if "Args:" in told:
            code[0] = node.body[min(1, len(node.body) - 1)]
            count, most = code[1].end_lineno - code[0].lineno + 1, CODE_LINES
        else:
            count, most = node.end_lineno - node.lineno + 1, FUNCTION_LINES
        if count > most:
            found.append(f"{node.name} has {count} lines, at most {most}")
    return found


def circles(graph: dict[str, list[str]]) -> list[str]:
    """Files that import one another, by whatever way round."""
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def declaration_problems(imports: set[str], declared: set[str], optional: set[str]) -> list[str]:
    """Distributions that are imported and not declared, or declared and not imported."""
    owners = metadata.packages_distributions()
    others = {name for name in imports if name not in {*sys.stdlib_module_names, "nbkit"}}
    used = {canonicalize_name(owner) for name in others for owner in owners.get(name, [name])}
    missing, unused = used - declared - optional, declared - used - NOT_IMPORTED
    return [f"{name} is imported, and not declared" for name in sorted(missing)] + [
        f"{name} is declared, and not imported" for name in sorted(unused)
    ]


def name_problems(package: ModuleType) -> list[str]:
    """Public names of a package that are something else than the submodule of that name: whichever
    is imported last hides the other."""
    return [
        f"{package.__name__}.{name} is both a module and a {type(found).__name__}"
        for _, name, _ in pkgutil.iter_modules(package.__path__)
        if name in package.__all__ and not isinstance(found := getattr(package, name), ModuleType)
    ]


def safety_problems(text: str) -> list[str]:
    """Pickle in any dress, and remote code switched on."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [f"imports {name}" for name in sorted(PICKLING & whole)]
        else:
            names = []
        found += [f"imports {name}" for name in names if name.split(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in UNSAFE_CALLS or called.split(".")[-1] in UNSAFE_CALLS - {"eval"}:
                found.append(f"calls {called}")
            for argument in node.keywords:
                value = getattr(argument.value, "value", None)
                if argument.arg in UNSAFE_ARGUMENTS and value is UNSAFE_ARGUMENTS[argument.arg]:
                    found.append(f"passes {argument.arg}={value}")
    return found


def private_problems(text: str) -> list[str]:
    """Paths of somebody's machine, hosts of package registries, and what a merge left behind."""
    patterns = {
        "machine path": MACHINE_PATH,
        "registry host": REGISTRY_HOST,
        "marker of a merge": MERGE_MARKER,
    }
    return [
        f"{what} {match.group()!r}"
        for what, pattern in patterns.items()
        if (match := pattern.search(text))
    ]


def repository_files():
    """All text files of the repository: no git needed, environments and caches left out."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_dir():
                hidden = path.name.startswith(".") and path.name not in {".ci", ".github"}
                made = path.name in {"__pycache__", "build", "dist"} or path.suffix == ".egg-info"
                if not (hidden or made or (path / "pyvenv.cfg").exists()):
                    folders.append(path)
            elif path.is_file() and b"\0" not in path.read_bytes()[:8192]:
                yield path


def report(problems: dict[Path, list[str]]) -> str:
    lines = []
    for path, found in problems.items():
        lines += [f"{path.relative_to(ROOT)}: {problem}" for problem in found]
    return "\n".join(lines)


# --- the rules, on the repository ---------------------------------------------------------------


def test_imports_go_downward_and_libraries_stay_in_their_module():
    problems = report({p: import_problems(p.read_text("utf-8"), p) for p in modules()})
    assert not problems, problems


def test_no_two_files_import_one_another():
    graph = {}
    for path in modules():
        here = path.relative_to(PACKAGE).as_posix()
        graph[here] = [file for file in arrows(path.read_text("utf-8"), path) if file != here]
    assert not (found := circles(graph)), found


def test_modules_and_functions_of_the_kit_are_short():
    kit = [p for p in modules() if p.relative_to(PACKAGE).parts[0] != "course"]
    problems = report({path: long_ones(path.read_text("utf-8")) for path in kit})
    assert not problems, problems


def test_the_import_reader_sees_the_package():
    """Were `imported` blind, the test above could not fail."""
    seen = {name for path in modules() for name in imported(path.read_text("utf-8"), path)}
    assert {"torch", "datasets.Dataset", "nbkit.world.knowledge.compose"} <= seen


def test_what_is_imported_is_declared_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared, optional = (
        {canonicalize_name(Requirement(text).name) for text in texts}
        for texts in (
            project["dependencies"],
            sum(map(project["optional-dependencies"].get, ("gguf", "test")), []),
        )
    )
    names = [name for path in modules() for name in imported(path.read_text("utf-8"), path)]
    imports = {name.partition(".")[0] for name in names}
    problems = declaration_problems(imports, declared, optional)
    assert not problems, "\n".join(problems)


def test_no_name_is_both_a_module_and_something_else():
    folders = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    names = [".".join(("nbkit", *folder.relative_to(PACKAGE).parts)) for folder in folders]
    packages = [p for p in map(importlib.import_module, names) if hasattr(p, "__all__")]
    assert {"nbkit", "nbkit.plots", "nbkit.scores"} <= {package.__name__ for package in packages}
    assert not (found := sum(map(name_problems, packages), [])), found


def test_no_pickle_and_no_remote_code():
    problems = report({p: safety_problems(p.read_text("utf-8")) for p in modules()})
    assert not problems, problems


def test_no_machine_path_and_no_registry_host_in_the_repository():
    problems = report({p: private_problems(p.read_text("utf-8")) for p in repository_files()})
    assert not problems, problems


def test_the_reader_of_the_repository_sees_it():
    seen = {path.relative_to(ROOT).as_posix() for path in repository_files()}
    assert {
        "README.md",
        ".ci/run",
        ".github/workflows/ci.yml",
        "nbkit/__init__.py",
        "nbkit/course/lessons/course.toml",
    } <= seen
    assert not any(".safetensors" in name for name in seen)


def test_readme_has_two_commands_and_ci_runs_the_second():
    text = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"^```bash\n(.*?)\n```", text, re.DOTALL | re.MULTILINE)
    assert len(commands) == 2 and not any("\n" in command for command in commands)
    assert commands[0].endswith("&& nbkit lab")
    assert commands[1].endswith("&& pytest")
    assert (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1] == commands[1]


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


BLOCK_NETWORK = """
import importlib, pkgutil, socket, sys
tried = []
def refuse(*args, **kwargs):
    tried.append(args)
    raise OSError("no network here")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""
IMPORT_ALL = """
import nbkit
for module in pkgutil.walk_packages(nbkit.__path__, "nbkit."):
    importlib.import_module(module.name)
"""
REPORT = "sys.exit(f'network at import: {tried}' if tried else 0)"


def test_no_network_at_import():
    """Attempts are counted, because a library may swallow the error."""
    done = run_python(BLOCK_NETWORK + IMPORT_ALL + REPORT)
    assert done.returncode == 0, done.stderr


def test_a_swallowed_attempt_is_counted():
    attempt = "try: socket.create_connection(('127.0.0.1', 9))\nexcept OSError: pass\n"
    done = run_python(BLOCK_NETWORK + attempt + REPORT)
    assert done.returncode == 1 and "network at import" in done.stderr


def test_import_nbkit_does_not_import_trl():
    done = run_python("import nbkit, sys; sys.exit('trl' in sys.modules)")
    assert done.returncode == 0, done.stderr or "import nbkit imports trl"


# --- the rules find what they forbid ------------------------------------------------------------


@pytest.mark.parametrize(
    "file, text, problem",
    [
        (
            "tokens/ids.py",
            "from nbkit.train.dpo import train_dpo",
            "train/dpo.py, which lies above",
        ),
        (
            "tokens/ids.py",
            "from ..logprobs.table import token_logprobs",
            "logprobs/table.py, which",
        ),
        ("tokens/ids.py", "from .. import select", "select/__init__.py, which lies above"),
        ("tokens/ids.py", "import nbkit.plots", "plots/__init__.py, which lies above"),
        ("tokens/ids.py", "def f():\n    from nbkit.scores.margins import x", "scores/margins.py"),
        ("logprobs/table.py", "import nbkit as nb", "imports from __init__.py, which lies above"),
        ("world/judge.py", "from ..logprobs.table import x", "logprobs/table.py, which lies above"),
        ("scores/margins.py", "from nbkit import train_dpo", "__init__.py, which lies above"),
        (
            "scores/margins.py",
            "from nbkit.judges import RewardModel",
            "judges.py, which lies above",
        ),
        ("scores/margins.py", "from nbkit.cache import hash_content", "name the file that defines"),
        (
            "train/callbacks.py",
            "from nbkit.experiments.crossfit import x",
            "crossfit.py, which lies",
        ),
        ("judges.py", "from nbkit.evaluate import wins", "evaluate.py, which lies above"),
        (
            "experiments/gains.py",
            "from nbkit.experiments.comparison import x",
            "comparison.py, which",
        ),
        ("evaluate.py", "import trl", "only train/trainers.py may"),
        (
            "train/dpo.py",
            "from trl.experimental.cpo import CPOTrainer",
            "only train/trainers.py may",
        ),
        ("course/tour.py", "import ipywidgets", "only widgets/ may"),
        ("evaluate.py", "import matplotlib.pyplot as plt", "only plots/ may"),
        ("widgets/share.py", "from nbkit.course import tour", "course/tour.py, which lies above"),
        ("novelty.py", "", "novelty.py is in no room"),
    ],
)
def test_forbidden_imports_are_found(file, text, problem):
    found = import_problems(text, PACKAGE / file)
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    "file, text",
    [
        ("train/trainers.py", "import trl\nfrom nbkit.logprobs.table import response_logprobs"),
        ("scores/margins.py", "from nbkit.logprobs.rows import x\nfrom .potential import y"),
        ("world/preferences.py", "from .knowledge import compose\nfrom nbkit.world import grades"),
        ("course/tour.py", "import nbkit as nb\nfrom nbkit import world"),
    ],
)
def test_allowed_imports_are_not(file, text):
    assert not import_problems(text, PACKAGE / file)


def test_long_ones_are_found():
    body = "    x = 1\n" * 41
    assert long_ones("x = 1\n" * 301) == ["301 lines, at most 300"]
    assert not long_ones(f'def f():\n    """Short."""\n{body}')
    assert long_ones(f'def f(x):\n    """Long.\n\n    Args:\n        x: one.\n    """\n{body}')
    assert long_ones("def f():\n" + "    x = 1\n" * 60) == ["f has 61 lines, at most 60"]


def test_circles_are_found():
    assert circles({"a.py": ["b.py"], "b.py": ["c.py"], "c.py": ["a.py"]})
    assert not circles({"a.py": ["b.py", "c.py"], "b.py": ["c.py"], "c.py": []})


def test_a_name_that_hides_a_module_is_found():
    from nbkit import plots

    twin = ModuleType("twin")
    twin.__path__, twin.__all__ = plots.__path__, ["kept", "bands"]
    twin.kept, twin.bands = lambda: None, importlib.import_module("nbkit.plots.bands")
    assert name_problems(twin) == ["twin.kept is both a module and a function"]


def test_undeclared_and_unused_distributions_are_found():
    declared = {"torch", "scipy", "jupyterlab"}
    found = declaration_problems({"os", "IPython", "torch"}, declared, set())
    assert found == ["ipython is imported, and not declared", "scipy is declared, and not imported"]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import Parallel, load",
        "joblib.dump(1, 'x')",
        "from torch import save",
        "torch.load('x')",
        "pd.read_pickle('x')",
        "frame.to_pickle('x')",
        "np.load('x', allow_pickle=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "load('x', weights_only=False)",
        "eval('1')",
    ],
)
def test_unsafe_code_is_found(text):
    assert safety_problems(text)


def test_safe_code_is_not():
    assert not safety_problems("model.eval()\nload('x', trust_remote_code=False)\nimport json")
    assert not safety_problems("from joblib import Parallel, delayed\njson.load(file)")


@pytest.mark.parametrize(
    "text",
    ["/ro" + "ot/x", "in /wo" + "rk/y", "/ho" + "me/ada", r"C:\Us" + r"ers\ada"]
    + ["<" * 7 + " HEAD", "https://py" + "pi.org/simple", "https://download.py" + "torch.org/whl"],
)
def test_private_text_is_found(text):
    assert private_problems(text)
