"""The house rules: imports go downward, and nothing in the repository is unsafe or private.

Each rule is a function from source text to a list of problems, so that it can be shown to find
the thing it forbids.
"""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nbkit"

# A module or sub-package may import those of its own floor and of the floors below it.
FLOORS = [
    {"pairs", "models", "loading", "saving", "inputs", "tokens", "templates", "doubts",
     "precision", "tables", "profiles", "world"},  # fmt: skip
    {"logprobs", "packing", "cache", "engine", "head", "derivatives"},
    {"scores", "select", "intervals", "agreement"},
    {"train", "sampling", "evaluate", "rewards", "workers"},
    {"scores.validation", "experiments", "selfplay"},
    {"plots", "exercises", "widgets", "machine"},
    {"__init__"},
    {"course"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
ONLY_IN = {"trl": "train", "ipywidgets": "widgets", "seaborn": "plots", "matplotlib": "plots"}
NOT_IMPORTED = {"accelerate", "jupyterlab"}  # transformers' Trainer needs one, `nbkit lab` runs one
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"torch.load", "torch.save", "read_pickle", "to_pickle", "eval", "exec"}
UNSAFE_ARGUMENTS = {"trust_remote_code": True, "allow_pickle": True, "weights_only": False}

MACHINE_PATH = re.compile(r"/(?:root|work)/\w|/home/\w|/Users/\w|\b[A-Z]:\\+Users|/opt/\w")
REGISTRY_HOST = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org|npmjs\.org", re.IGNORECASE
)


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The name in FLOORS that a file of nbkit belongs to: its module or sub-package, or the one
    module of a sub-package that has a floor of its own."""
    return place([part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts])


def place(parts: list[str]) -> str:
    own = ".".join(parts[:2])
    return own if own in FLOOR else parts[0]


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


def import_problems(text: str, path: Path) -> list[str]:
    """Upward imports, and libraries imported outside the one module that may."""
    here = unit(path)
    if here not in FLOOR:
        return [f"{here} has no floor: give it one in FLOORS of {Path(__file__).name}"]
    found = []
    for name in imported(text, path):
        first, *rest = name.split(".")
        if ONLY_IN.get(first, here) != here:
            found.append(f"{here} imports {name}; only {ONLY_IN[first]}.py may")
        if first == "nbkit":
            there = place(rest) if rest and rest[0] in FLOOR else "__init__"
            if FLOOR[there] > FLOOR[here]:
                found.append(f"{here} (floor {FLOOR[here]}) imports {name} (floor {FLOOR[there]})")
    return found


def declaration_problems(imports: set[str], declared: set[str], optional: set[str]) -> list[str]:
    """Distributions that are imported and not declared, or declared and not imported."""
    owners = metadata.packages_distributions()
    others = {name for name in imports if name not in {*sys.stdlib_module_names, "nbkit"}}
    used = {canonicalize_name(owner) for name in others for owner in owners.get(name, [name])}
    missing, unused = used - declared - optional, declared - used - NOT_IMPORTED
    return [f"{name} is imported, and not declared" for name in sorted(missing)] + [
        f"{name} is declared, and not imported" for name in sorted(unused)
    ]


def safety_problems(text: str) -> list[str]:
    """Pickle in any dress, and remote code switched on."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
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
    """Paths of somebody's machine and hosts of package registries."""
    patterns = {"machine path": MACHINE_PATH, "registry host": REGISTRY_HOST}
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
                hidden = path.name.startswith(".") and path.name != ".ci"
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


def test_the_import_reader_sees_the_package():
    """Were `imported` blind, the test above could not fail."""
    seen = {name for path in modules() for name in imported(path.read_text("utf-8"), path)}
    assert {"torch", "datasets.Dataset", "nbkit.world.facts.compose"} <= seen


def test_what_is_imported_is_declared_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared, optional = (
        {canonicalize_name(Requirement(text).name) for text in texts}
        for texts in (project["dependencies"], project["optional-dependencies"]["gguf"])
    )
    names = [name for path in modules() for name in imported(path.read_text("utf-8"), path)]
    imports = {name.partition(".")[0] for name in names}
    problems = declaration_problems(imports, declared, optional)
    assert not problems, "\n".join(problems)


def test_no_pickle_and_no_remote_code():
    problems = report({p: safety_problems(p.read_text("utf-8")) for p in modules()})
    assert not problems, problems


def test_no_machine_path_and_no_registry_host_in_the_repository():
    problems = report({p: private_problems(p.read_text("utf-8")) for p in repository_files()})
    assert not problems, problems


def test_the_reader_of_the_repository_sees_it():
    seen = {path.relative_to(ROOT).as_posix() for path in repository_files()}
    assert {"README.md", ".ci/run", "nbkit/__init__.py", "notebooks/course.toml"} <= seen
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
        ("tokens.py", "from nbkit.train import train_dpo", "imports nbkit.train.train_dpo"),
        ("tokens.py", "from .logprobs import response_logprobs", "(floor 1)"),
        ("tokens.py", "from . import select", "imports nbkit.select"),
        ("tokens.py", "import nbkit.plots", "imports nbkit.plots"),
        ("tokens.py", "def f():\n    from .scores import margins", "imports nbkit.scores.margins"),
        ("logprobs.py", "import nbkit as nb", "imports nbkit (floor 6)"),
        ("world/pairs.py", "from ..logprobs import x", "world (floor 0) imports nbkit.logprobs.x"),
        ("scores/margins.py", "from nbkit import train_dpo", "(floor 6)"),
        ("scores/margins.py", "from nbkit.train import train_dpo", "(floor 3)"),
        ("train/dpo.py", "from nbkit.scores.validation import x", "(floor 4)"),
        ("select.py", "import nbkit.scores.validation", "(floor 4)"),
        ("evaluate.py", "import trl", "only train.py may"),
        ("evaluate.py", "from trl.experimental.cpo import CPOTrainer", "only train.py may"),
        ("exercises.py", "import ipywidgets", "only widgets.py may"),
        ("evaluate.py", "import matplotlib.pyplot as plt", "only plots.py may"),
        ("widgets.py", "from nbkit.course import tour", "(floor 7)"),
        ("novelty.py", "", "novelty has no floor"),
    ],
)
def test_forbidden_imports_are_found(file, text, problem):
    assert any(problem in found for found in import_problems(text, PACKAGE / file))


@pytest.mark.parametrize(
    "file, text",
    [
        ("train.py", "import trl\nfrom .logprobs import response_logprobs"),
        ("scores/margins.py", "from ..logprobs import x\nfrom .potential import y"),
        ("scores/validation.py", "from nbkit.train import train_dpo\nfrom nbkit.scores import x"),
        ("world/pairs.py", "from .facts import compose\nfrom nbkit import world"),
        ("__init__.py", "from .plots import margins"),
    ],
)
def test_allowed_imports_are_not(file, text):
    assert not import_problems(text, PACKAGE / file)


def test_undeclared_and_unused_distributions_are_found():
    declared = {"torch", "scipy", "jupyterlab"}
    found = declaration_problems({"os", "IPython", "torch"}, declared, set())
    assert found == ["ipython is imported, and not declared", "scipy is declared, and not imported"]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
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


@pytest.mark.parametrize(
    "text",
    ["/ro" + "ot/x", "in /wo" + "rk/y", "/ho" + "me/ada", r"C:\Us" + r"ers\ada"]
    + ["https://py" + "pi.org/simple", "https://download.py" + "torch.org/whl"],
)
def test_private_text_is_found(text):
    assert private_problems(text)
