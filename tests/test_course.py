"""The course holds together: index, sources, notebooks, README; and the tool that builds it.

The first half looks at the committed course. The second builds a tiny one and breaks it in every
way that checks.py is there to notice.
"""

import base64
import copy
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from tooling import checks, course, readme, run

ROOT = Path(__file__).resolve().parents[1]
COURSE = course.Course.read(ROOT / "notebooks")
WRITTEN = pytest.mark.parametrize("chapter", COURSE.written, ids=lambda chapter: chapter.file)


def run_solutions(of: course.Course, chapter: course.Chapter) -> None:
    """Execute set-up, solutions and checks of a chapter's source; every check must be passed.

    A check cell ends in the checker's result, which IPython keeps in `Out`.
    """
    notebook = course.assemble(of, chapter, solved=True)
    wanted = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "setup" in tags or "check" in tags or course.BEGIN in cell.source:
            wanted.append(cell)
        if "check" in tags:
            demand = "result = Out[len(In) - 2]\nassert result.passed, result"
            wanted.append(nbformat.v4.new_code_cell(demand))
    notebook.cells = wanted
    run.execute(notebook, of.folder, timeout=120)


# --- the committed course ---------------------------------------------------------------------


def test_index_files_and_readme_are_in_step():
    problems = checks.listing_problems(COURSE) + readme.readme_problems(COURSE)
    assert not problems, "\n".join(problems)


def test_the_course_has_its_thirteen_chapters():
    assert [chapter.number for chapter in COURSE.chapters] == [f"{n:02d}" for n in range(13)]


@WRITTEN
def test_notebook_is_what_its_source_gives_and_is_clean(chapter):
    notebook = nbformat.read(COURSE.notebook(chapter), as_version=4)
    nbformat.validate(notebook)
    problems = checks.notebook_problems(COURSE, chapter, notebook)
    assert not problems, "\n".join(problems)


@WRITTEN
def test_solutions_pass_their_checks(chapter):
    run_solutions(COURSE, chapter)


# --- the tool, on a tiny course ---------------------------------------------------------------

INDEX = """
[[chapter]]
number = "00"
file = "00_demo"
title = "Does the tool work?"
summary = "Builds a notebook."
paper = "none"
minutes = 1
memory = "1 GB"
written = true

[[chapter]]
number = "01"
file = "01_later"
title = "What comes next?"
summary = "Nothing yet."
paper = "none"
"""

SOURCE = '''\
# %% [markdown]
# A margin is a difference.

# %% tags=["setup"]
import sys, warnings
import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import HTML
from tqdm.auto import tqdm

# %%
for _ in tqdm(range(3)): pass
sys.stderr.write("50%|#####     | 1/2 [00:01<00:01, 1.0it/s]\\n")
warnings.warn("careful")
print("kept")

# %% tags=["picture"]
plt.figure(figsize=(1, 1))
plt.plot([0, 1]);

# %%
ipywidgets.interact(lambda x: x, x=3);

# %%
HTML("<progress value=1>")

# %% tags=["setup"]
class Result:
    def __init__(self, passed, text): self.passed, self.text = passed, text
    def __repr__(self): return self.text

def check(function):
    try: right = function(3, 1) == 2
    except NotImplementedError: return Result(False, "not attempted")
    return Result(right, "passed" if right else "wrong")

# %%
def margin(chosen, rejected):
    """In nats."""
    ### BEGIN SOLUTION
    return chosen - rejected
    ### END SOLUTION

# %% tags=["check"]
check(margin)
'''


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(course, chapter, built notebook, what was on stderr) of a tiny course, built for real."""
    folder = tmp_path_factory.mktemp("repo") / "notebooks"
    (folder / "src").mkdir(parents=True)
    (folder / "course.toml").write_text(INDEX)
    (folder / "src" / "00_demo.py").write_text(SOURCE)
    (folder.parent / "nbkit").mkdir()
    (folder.parent / "nbkit" / "pairs.py").write_text('"""Pairs come in."""\n')
    markers = [f"<!-- {m}:begin -->\n<!-- {m}:end -->\n" for m in ("picture", "course", "modules")]
    (folder.parent / "README.md").write_text("# demo\n" + "".join(markers))
    tiny = course.Course.read(folder)
    chapter = tiny.chapters[0]
    notebook = course.assemble(tiny, chapter)
    assert run.execute(notebook, folder, timeout=60) >= 0
    stderr = run.clean(notebook)
    nbformat.write(notebook, tiny.notebook(chapter))
    run.write_picture(notebook, tiny.picture(chapter))
    readme.write_readme(tiny)
    return tiny, chapter, notebook, stderr


def cell_with(notebook, text):
    return next(cell for cell in notebook.cells if text in cell.source)


def test_a_built_course_has_no_problem(demo):
    tiny, _, _, _ = demo
    assert checks.course_problems(tiny) == []


def test_learner_sees_a_stub_and_the_source_keeps_the_solution(demo):
    tiny, chapter, notebook, _ = demo
    exercise = cell_with(notebook, "def margin")
    assert exercise.source.endswith(f'"""In nats."""\n    {course.STUB}')
    assert "chosen - rejected" not in "".join(cell.source for cell in notebook.cells)
    solved = course.assemble(tiny, chapter, solved=True)
    assert "return chosen - rejected" in cell_with(solved, "def margin").source
    assert cell_with(notebook, "check(margin)").outputs[0].data["text/plain"] == "not attempted"


def test_noise_goes_and_what_it_said_is_reported(demo):
    _, _, notebook, stderr = demo
    kept = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.output_type for output in kept] == ["stream", "display_data", "execute_result"]
    assert kept[0].text == "kept\n"
    assert "image/png" in kept[1].data
    assert "widgets" not in notebook.metadata
    assert any("careful" in line for line in stderr)
    assert not any("it/s" in line for line in stderr)


def test_title_card_and_links_come_from_the_index(demo):
    _, _, notebook, _ = demo
    title, footer = notebook.cells[0].source, notebook.cells[-1].source
    assert title.startswith(
        "# 00 · Does the tool work?\n\n*Runs in about 1 min, 1 GB memory · Paper: none*"
    )
    assert footer == "---\n01 · What comes next? (not yet written) →"


def test_picture_and_readme(demo):
    tiny, chapter, _, _ = demo
    assert tiny.picture(chapter).read_bytes().startswith(b"\x89PNG")
    text = readme.readme_path(tiny).read_text()
    assert "[![Does the tool work?](notebooks/images/00_demo.png)](notebooks/00_demo.ipynb)" in text
    assert "| 00 | [Does the tool work?](notebooks/00_demo.ipynb) |" in text
    assert "| 01 | What comes next? *(not yet written)* |" in text
    assert "pairs.py  Pairs come in." in text


def test_ids_are_the_same_each_time_and_only_a_changed_cell_gets_a_new_one(demo, tmp_path):
    tiny, chapter, notebook, _ = demo
    again = course.assemble(tiny, chapter)
    assert [cell.id for cell in again.cells] == [cell.id for cell in notebook.cells]
    other = shutil.copytree(tiny.folder, tmp_path / "notebooks")
    source = other / "src" / "00_demo.py"
    source.write_text(SOURCE.replace('print("kept")', 'print("more")'))
    changed = course.assemble(course.Course.read(other), chapter)
    pairs = zip(notebook.cells, changed.cells, strict=True)
    assert sum(old.id != new.id for old, new in pairs) == 1


def test_outputs_are_kept_for_new_prose_and_not_for_new_code(demo):
    tiny, chapter, notebook, _ = demo
    fresh = course.assemble(tiny, chapter)
    fresh.cells[1].source = "Other words."
    run.keep_outputs(fresh, notebook)
    assert cell_with(fresh, "check(margin)").outputs == cell_with(notebook, "check(margin)").outputs
    cell_with(fresh, "plt.figure").source += "\nplt.title('x');"
    with pytest.raises(ValueError, match="code cells have changed"):
        run.keep_outputs(fresh, notebook)


def test_right_solution_passes_and_a_wrong_one_is_noticed(demo, tmp_path):
    tiny, chapter, _, _ = demo
    run_solutions(tiny, chapter)
    other = shutil.copytree(tiny.folder, tmp_path / "notebooks")
    source = other / "src" / "00_demo.py"
    source.write_text(SOURCE.replace("return chosen - rejected", "return rejected - chosen"))
    with pytest.raises(CellExecutionError, match="AssertionError.*wrong"):
        run_solutions(course.Course.read(other), chapter)


# --- every check, broken once -----------------------------------------------------------------


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def add_output(text, output):
    def damage(notebook):
        cell_with(notebook, text).outputs.append(output)

    return damage


def set_source(text, source):
    def damage(notebook):
        cell_with(notebook, text).source = source

    return damage


def widget_state(notebook):
    notebook.metadata["widgets"] = {"state": {}}


def python_version(notebook):
    notebook.metadata.language_info["version"] = "3.11.7"


def timestamp(notebook):
    cell_with(notebook, "kept").metadata["execution"] = {"iopub.execute_input": "2030-01-01"}


def removed_cell(notebook):
    notebook.cells.pop(1)


def removed_tag(notebook):
    del cell_with(notebook, "import ipywidgets").metadata["tags"]


def other_id(notebook):
    notebook.cells[2].id = "abc"


def run_out_of_order(notebook):
    cell_with(notebook, "kept").execution_count = 9


def attempted(notebook):
    cell_with(notebook, "check(margin)").outputs = [stream("passed")]


HOME, ROOTS, WINDOWS = "/ho" + "me/ada/x.py", "/ro" + "ot/x", r"C:\Us" + r"ers\ada"
ERROR = nbformat.v4.new_output("error", ename="NameError", evalue="x", traceback=["NameError: x"])
VIEW = nbformat.v4.new_output("display_data", data={run.WIDGET: {"model_id": "1"}})
TABLE = nbformat.v4.new_output("display_data", data={"text/html": f"<td>{ROOTS}</td>"})
DAMAGES = [
    (set_source("kept", "print('changed')"), "cell 3 is not what the source gives: source differ"),
    (removed_cell, "10 cells, its source gives 11"),
    (removed_tag, "cell 2 is not what the source gives: metadata differ"),
    (other_id, "cell 2 is not what the source gives: id differ"),
    (widget_state, r"notebook metadata holds \['widgets'\]"),
    (python_version, "notebook metadata holds other values"),
    (timestamp, "cell 3 is not what the source gives: metadata differ"),
    (run_out_of_order, "not run once from top to bottom"),
    (attempted, "does not say 'not attempted'"),
    (add_output("kept", ERROR), "error output NameError"),
    (add_output("kept", VIEW), "widget or progress bar"),
    (add_output("kept", stream("x", name="stderr")), "stderr, widget or progress bar"),
    (add_output("kept", stream(f"see {HOME}")), "output has a machine path"),
    (add_output("kept", stream(f"'{WINDOWS}'")), "output has a machine path"),
    (add_output("kept", TABLE), "output has a machine path"),
    (add_output("kept", stream("<Axes at 0x7f00aa11bb22>")), "memory address"),
    (set_source("kept", f"open('{HOME}')"), "source has a machine path"),
    (set_source("kept", "x = 1\n" * 26), "26 lines, at most 25"),
    (set_source("kept", ""), "empty code cell"),
    (set_source("import ipywidgets", "x = 1\n" * 9), "set-up cell has 9 lines, at most 8"),
    (removed_tag, "first code cell is not tagged `setup`"),
]


@pytest.mark.parametrize("damage, message", DAMAGES, ids=[message for _, message in DAMAGES])
def test_damage_to_a_notebook_is_named(demo, damage, message):
    tiny, chapter, notebook, _ = demo
    broken = copy.deepcopy(notebook)
    damage(broken)
    with pytest.raises(AssertionError, match=message):
        problems = checks.notebook_problems(tiny, chapter, broken)
        assert not problems, "\n".join(problems)


def test_long_median_is_named(demo):
    _, _, notebook, _ = demo
    broken = copy.deepcopy(notebook)
    for cell in broken.cells:
        cell.source = "x = 1\n" * 9
    assert any("median code cell has 9" in problem for problem in checks.size_problems(broken))


@pytest.mark.parametrize(
    "text", ["see https://x.org/var/x", "a/var/b", "1/2", "</table>", "x:\\nAnswer", "~/data"]
)
def test_what_is_no_machine_path(text):
    assert not checks.MACHINE_PATH.search(text)


def without_notebook(folder):
    (folder / "00_demo.ipynb").unlink()


def without_source(folder):
    (folder / "src" / "00_demo.py").unlink()


def unlisted_notebook(folder):
    (folder / "02_extra.ipynb").write_text("{}")


def old_readme(folder):
    path = folder.parent / "README.md"
    path.write_text(path.read_text().replace("Builds a notebook", "Something else"))


def index_change(old, new):
    def damage(folder):
        path = folder / "course.toml"
        path.write_text(path.read_text().replace(old, new))

    return damage


COURSE_DAMAGES = [
    (without_notebook, "no 00_demo.ipynb"),
    (without_source, "no src/00_demo.py"),
    (unlisted_notebook, "02_extra: a file, but"),
    (old_readme, "README.md is not what"),
    (index_change("Builds a notebook", "Other"), "README.md is not what"),
    (index_change("next?", "next"), "is not a question"),
    (index_change("minutes = 1", "minutes = 0"), "minutes or memory is missing"),
    (index_change('"01"', '"02"'), "expected 00, 01, ... in order"),
    (index_change("01_later", "later"), "does not begin with 01_"),
]


@pytest.mark.parametrize("damage, message", COURSE_DAMAGES, ids=[m for _, m in COURSE_DAMAGES])
def test_damage_to_the_course_is_named(demo, tmp_path, damage, message):
    tiny, _, _, _ = demo
    repo = shutil.copytree(tiny.folder.parent, tmp_path / "repo")
    damage(repo / "notebooks")
    problems = checks.course_problems(course.Course.read(repo / "notebooks"))
    assert any(message in problem for problem in problems), problems


def test_exercise_without_check_is_named(demo, tmp_path):
    tiny, chapter, notebook, _ = demo
    other = shutil.copytree(tiny.folder, tmp_path / "notebooks")
    (other / "src" / "00_demo.py").write_text(SOURCE.replace('tags=["check"]', ""))
    problems = checks.exercise_problems(course.Course.read(other), chapter, notebook)
    assert any("exercise without a cell tagged `check`" in problem for problem in problems)


@pytest.mark.parametrize(
    "source, message",
    [
        ("### BEGIN SOLUTION\nx = 1\n### END SOLUTION", "expected inside a function"),
        ("def f():\n    ### BEGIN SOLUTION\n    return 1", "BEGIN SOLUTION without ### END"),
        ("def f():\n    return 1\n    ### END SOLUTION", "END SOLUTION without ### BEGIN"),
    ],
)
def test_markers_that_do_not_pair_up_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        course.learner(source)


def test_unknown_or_missing_key_in_the_index_is_refused(tmp_path):
    (tmp_path / "course.toml").write_text(INDEX.replace("summary", "sumary", 1))
    with pytest.raises(ValueError, match="chapter 00: sumary, summary is missing or unknown"):
        course.Course.read(tmp_path)


def test_picture_cell_without_a_figure_is_refused(tmp_path):
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": ["picture"]})
    with pytest.raises(ValueError, match="shows no figure"):
        run.write_picture(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "images" / "x.png")
    figure = nbformat.v4.new_output(
        "display_data", data={"image/png": base64.b64encode(b"p").decode()}
    )
    cell.outputs = [figure]
    run.write_picture(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "images" / "x.png")
    assert (tmp_path / "images" / "x.png").read_bytes() == b"p"
