"""The course holds together: index, sources, notebooks, README; and the tool that builds it.

The first half looks at the committed course. The second builds a tiny one and breaks it in every
way that checks.py is there to notice.
"""

import base64
import copy
import io
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

import nbkit
from nbkit.__main__ import main
from nbkit.course.building import assembling, checks, commands, readme, running
from nbkit.course.building.index import Course, Lesson
from nbkit.course.errors import CommandError

ROOT = Path(__file__).resolve().parents[1]
COURSE = Course.read(ROOT)
WRITTEN = pytest.mark.parametrize("lesson", COURSE.written, ids=lambda lesson: lesson.file)


def run_solutions(of: Course, lesson: Lesson) -> None:
    """Execute set-up, solutions and checks of a lesson's source; every check must be passed.

    A check cell ends in the checker's result, which IPython keeps in `Out`.
    """
    notebook = assembling.assemble(of, lesson, solved=True)
    wanted = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "setup" in tags or "check" in tags or assembling.BEGIN in cell.source:
            wanted.append(cell)
        if "check" in tags:
            demand = "result = Out[len(In) - 2]\nassert result.passed, result"
            wanted.append(nbformat.v4.new_code_cell(demand))
    notebook.cells = wanted
    running.execute(notebook, of.notebooks, timeout=120)


# --- the committed course ---------------------------------------------------------------------


def test_index_files_and_readme_are_in_step():
    problems = checks.listing_problems(COURSE) + checks.landing_problems(COURSE)
    problems += readme.readme_problems(COURSE)
    assert not problems, "\n".join(problems)


def test_the_course_has_its_thirteen_lessons():
    assert [lesson.number for lesson in COURSE.lessons] == [f"{n:02d}" for n in range(13)]


def test_the_landing_page_names_what_there_is():
    text = (COURSE.sources / "index.md").read_text("utf-8")
    assert set(re.findall(r"\bnb\.(\w+)", text)) <= set(nbkit.__all__)
    assert "nbkit/course/lessons/" in text and COURSE.sources == ROOT / "nbkit/course/lessons"


@WRITTEN
def test_notebook_is_what_its_source_gives_and_is_clean(lesson):
    notebook = nbformat.read(COURSE.notebook(lesson), as_version=4)
    nbformat.validate(notebook)
    problems = checks.notebook_problems(COURSE, lesson, notebook)
    assert not problems, "\n".join(problems)


@WRITTEN
def test_solutions_pass_their_checks(lesson):
    run_solutions(COURSE, lesson)


# --- the tool, on a tiny course ---------------------------------------------------------------

INDEX = """
[[lesson]]
number = "00"
file = "00_demo"
title = "Does the tool work?"
summary = "Builds a notebook."
paper = "none"
minutes = 1
memory = "1 GB"
written = true

[[lesson]]
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
from IPython.display import HTML, display
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
# a widget's output without its messages, beside which nbclient can miss the reply
view = "application/vnd.jupyter.widget-view+json"
display({view: {"model_id": "1"}, "text/plain": "a widget"}, raw=True)

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

LANDING = "# Start here\n\nA demo.\n\n## The lessons\n\n<!-- lessons -->\n\n## More\n\nNo more.\n"

DOCSTRING = """\"\"\"A folder.

Files::

    one.py   the first
    two.py   the second,
             and more of it

More words.
\"\"\"
"""


def tiny_course(root: Path) -> Course:
    """The files of a repository with one lesson that is written, and one that is not."""
    markers = [f"<!-- {m}:begin -->\n<!-- {m}:end -->\n" for m in ("picture", "course", "modules")]
    files = {
        "README.md": "# demo\n" + "".join(markers),
        "nbkit/course/lessons/course.toml": INDEX,
        "nbkit/course/lessons/index.md": LANDING,
        "nbkit/course/lessons/00_demo.py": SOURCE,
        "nbkit/course/__init__.py": DOCSTRING,
        "nbkit/experiments/__init__.py": DOCSTRING,
        "nbkit/__main__.py": '"""The command line."""\n',
        "nbkit/pairs.py": '"""Pairs come in."""\n',
        "nbkit/world.py": '"""The world."""\n',
        "tests/test_house.py": 'ROOMS = ["world.py", "pairs.py", "experiments", "__main__.py"]\n',
        "notebooks/.gitkeep": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Course.read(root)


def in_full(run, *args) -> str:
    """Call `run` in the full profile; what it said."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.delenv("NBKIT_PROFILE")
        run(*args)
    return said.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(course, lesson, built notebook, what the builder said) of a tiny course, built for real."""
    tiny = tiny_course(tmp_path_factory.mktemp("repo"))
    said = in_full(commands.build, tiny, [])
    lesson = tiny.lessons[0]
    return tiny, lesson, nbformat.read(tiny.notebook(lesson), as_version=4), said


@pytest.fixture
def clone(demo, tmp_path):
    """A copy of the tiny course, to be broken."""
    return Course.read(shutil.copytree(demo[0].root, tmp_path / "clone"))


def cell_with(notebook, text):
    return next(cell for cell in notebook.cells if text in cell.source)


def test_a_built_course_has_no_problem(demo):
    tiny, _, _, _ = demo
    assert checks.course_problems(tiny) == []


def test_learner_sees_a_stub_and_the_source_keeps_the_solution(demo):
    tiny, lesson, notebook, _ = demo
    exercise = cell_with(notebook, "def margin")
    assert exercise.source.endswith(f'"""In nats."""\n    {assembling.STUB}')
    assert "chosen - rejected" not in "".join(cell.source for cell in notebook.cells)
    solved = assembling.assemble(tiny, lesson, solved=True)
    assert "return chosen - rejected" in cell_with(solved, "def margin").source
    assert cell_with(notebook, "check(margin)").outputs[0].data["text/plain"] == "not attempted"


def test_noise_goes_and_what_it_said_is_reported(demo):
    _, _, notebook, said = demo
    kept = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.output_type for output in kept] == ["stream", "display_data", "execute_result"]
    assert kept[0].text == "kept\n"
    assert "image/png" in kept[1].data
    assert "widgets" not in notebook.metadata
    assert "on stderr, not kept" in said and "careful" in said and "it/s" not in said


def test_the_builder_says_what_a_lesson_took(demo):
    said = demo[-1]
    assert re.search(r"00_demo: \d+ s, within the limit of 60 s; \d\.\d GB", said)
    assert "course.toml says 1 minutes, 1 GB." in said


def test_title_card_and_links_come_from_the_index(demo):
    _, _, notebook, _ = demo
    title, footer = notebook.cells[0].source, notebook.cells[-1].source
    assert title.startswith(
        "# 00 · Does the tool work?\n\n*Runs in about 1 min, 1 GB memory · Paper: none*"
    )
    links = "← [Start here](index.ipynb) &nbsp;|&nbsp; 01 · What comes next? (not yet written) →"
    assert footer == f"---\n{links}" and title.endswith(links)


def test_picture_and_readme(demo):
    tiny, lesson, _, _ = demo
    assert tiny.picture(lesson).read_bytes().startswith(b"\x89PNG")
    text = tiny.readme.read_text()
    picture = "[![Does the tool work?](docs/images/00_demo.png)](notebooks/00_demo.ipynb)"
    assert picture in text
    assert "| 00 | [Does the tool work?](notebooks/00_demo.ipynb) |" in text
    assert "| 01 | What comes next? *(not yet written)* |" in text


def test_readme_shows_kit_experiments_and_course_from_the_ground_up(demo):
    text = demo[0].readme.read_text()
    listed = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    assert (
        listed
        == """\
nbkit/
  The kit: score, select, train, judge, show
    world.py  The world.
    pairs.py  Pairs come in.
  Experiments with it: many models are trained, and compared
    experiments/
      one.py   the first
      two.py   the second,
               and more of it
  The course, on top of both
    course/
      one.py   the first
      two.py   the second,
               and more of it
    __main__.py  The command line.
"""
    )


def test_the_landing_page_lists_the_lessons(demo):
    page = nbformat.read(demo[0].landing, as_version=4)
    nbformat.validate(page)
    first, lessons, more = (cell.source for cell in page.cells)
    assert first == "# Start here\n\nA demo." and more == "## More\n\nNo more."
    assert (
        "| 00 | [Does the tool work?](00_demo.ipynb) | Builds a notebook. | 1 | 1 GB |" in lessons
    )
    assert "| 01 | What comes next? *(not yet written)* |" in lessons


def test_ids_are_the_same_each_time_and_only_a_changed_cell_gets_a_new_one(demo, clone):
    tiny, lesson, notebook, _ = demo
    again = assembling.assemble(tiny, lesson)
    assert [cell.id for cell in again.cells] == [cell.id for cell in notebook.cells]
    clone.source(lesson).write_text(SOURCE.replace('print("kept")', 'print("more")'))
    changed = assembling.assemble(clone, lesson)
    pairs = zip(notebook.cells, changed.cells, strict=True)
    assert sum(old.id != new.id for old, new in pairs) == 1


def test_outputs_are_kept_for_new_prose_and_not_for_new_code(demo):
    tiny, lesson, notebook, _ = demo
    fresh = assembling.assemble(tiny, lesson)
    fresh.cells[1].source = "Other words."
    running.keep_outputs(fresh, notebook)
    assert cell_with(fresh, "check(margin)").outputs == cell_with(notebook, "check(margin)").outputs
    cell_with(fresh, "plt.figure").source += "\nplt.title('x');"
    with pytest.raises(ValueError, match="code cells have changed"):
        running.keep_outputs(fresh, notebook)


def test_right_solution_passes_and_a_wrong_one_is_noticed(demo, clone):
    tiny, lesson, _, _ = demo
    run_solutions(tiny, lesson)
    wrong = SOURCE.replace("return chosen - rejected", "return rejected - chosen")
    clone.source(lesson).write_text(wrong)
    with pytest.raises(CellExecutionError, match="AssertionError.*wrong"):
        run_solutions(clone, lesson)


# --- the builder refuses ----------------------------------------------------------------------


def test_another_profile_than_full_is_refused(clone, monkeypatch):
    """The tests run in quick; `--text` runs nothing, and works in any profile."""
    before = clone.notebook(clone.lessons[0]).read_bytes()
    with pytest.raises(CommandError, match="NBKIT_PROFILE is quick.*unset NBKIT_PROFILE"):
        commands.build(clone, ["00"])
    monkeypatch.setenv("NBKIT_PROFILE", "fast")
    with pytest.raises(CommandError, match="NBKIT_PROFILE is 'fast'; expected one of"):
        commands.build(clone, ["00"])
    commands.build(clone, ["00"], text_only=True)
    assert clone.notebook(clone.lessons[0]).read_bytes() == before


def test_a_notebook_of_another_profile_is_noticed(demo):
    """Were it built in spite of the builder: the kernel runs in the tests' profile, quick."""
    tiny, lesson, _, _ = demo
    notebook = assembling.assemble(tiny, lesson)
    commands.run(tiny, lesson, notebook)
    problems = checks.notebook_problems(tiny, lesson, notebook)
    assert problems == ["00_demo: run in quick profile, expected full: nbkit course build NN"]


def test_what_is_not_written_is_unknown_to_the_builder(clone):
    for numbers in (["01"], ["00", "7"]):
        with pytest.raises(CommandError, match="no written lesson (01|7); expected"):
            commands.build(clone, numbers)


def test_a_cell_that_fails_is_shown_and_nothing_is_written(clone):
    lesson = clone.lessons[0]
    clone.source(lesson).write_text(SOURCE.replace('print("kept")', "1 / 0"))
    before = clone.notebook(lesson).read_bytes()
    with pytest.raises(CommandError, match="00_demo: not written, a cell failed.\n(?s:.*)1 / 0"):
        in_full(commands.build, clone, ["00"])
    assert clone.notebook(lesson).read_bytes() == before


def test_a_notebook_with_a_problem_is_not_written(clone):
    lesson = clone.lessons[0]
    clone.source(lesson).write_text(SOURCE.replace("check(margin)", "1"))
    before = clone.notebook(lesson).read_bytes()
    with pytest.raises(CommandError, match="not written:\n00_demo: .* 'not attempted'"):
        in_full(commands.build, clone, [])
    assert clone.notebook(lesson).read_bytes() == before


def test_a_cell_that_is_too_long_is_refused_before_anything_runs(clone, monkeypatch):
    monkeypatch.delenv("NBKIT_PROFILE")
    clone.source(clone.lessons[0]).write_text(SOURCE.replace('print("kept")', "x = 1\n" * 26))
    monkeypatch.setattr(commands, "run", lambda *args: pytest.fail("it was run"))
    with pytest.raises(CommandError, match="not written:\n00_demo: .* lines, at most 25"):
        commands.build(clone, [])


def test_new_code_is_not_built_as_text(clone):
    clone.source(clone.lessons[0]).write_text(SOURCE.replace('print("kept")', "print(1)"))
    with pytest.raises(CommandError, match="00_demo: code cells have changed"):
        commands.build(clone, [], text_only=True)


# --- the commands -----------------------------------------------------------------------------


def test_the_commands_build_and_check_this_clone(clone, monkeypatch, capsys):
    monkeypatch.setattr(commands, "CLONE", clone.root)
    assert main(["course", "check"]) == 0 and "are in step" in capsys.readouterr().out
    clone.landing.unlink()
    clone.readme.write_text(clone.readme.read_text().replace("Builds a", "Other"))
    assert main(["course", "check"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("nbkit course build --readme" in line for line in said)
    assert main(["course", "build", "--readme"]) == 0 and main(["course", "check"]) == 0
    assert main(["course", "build", "00", "--text"]) == 0
    assert main(["course", "build", "01"]) == 1
    assert "nbkit course: course.toml has no written lesson 01" in capsys.readouterr().err


def test_outside_a_clone_and_without_the_extra_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "CLONE", tmp_path)
    assert main(["course", "check"]) == 1
    said = capsys.readouterr().err
    assert "in a clone of nbkit's repository" in said and said.count("\n") == 1
    monkeypatch.setitem(sys.modules, "jupytext", None)
    for name in ("nbkit.course.building.commands", "nbkit.course.building.assembling"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(nbkit.course.building, "commands")
    assert main(["course", "build"]) == 1
    said = capsys.readouterr().err
    assert "building needs jupytext" in said and 'pip install -e ".[test]"' in said
    assert said.count("\n") == 1


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


def unstamped(notebook):
    del notebook.metadata["nbkit"]


def edited_number(notebook):
    cell_with(notebook, "kept").outputs[0].text = "kept, and more\n"


def run_out_of_order(notebook):
    cell_with(notebook, "kept").execution_count = 9


def attempted(notebook):
    cell_with(notebook, "check(margin)").outputs = [stream("passed")]


HOME, ROOTS, WINDOWS = "/ho" + "me/ada/x.py", "/ro" + "ot/x", r"C:\Us" + r"ers\ada"
ERROR = nbformat.v4.new_output("error", ename="NameError", evalue="x", traceback=["NameError: x"])
VIEW = nbformat.v4.new_output("display_data", data={running.WIDGET: {"model_id": "1"}})
TABLE = nbformat.v4.new_output("display_data", data={"text/html": f"<td>{ROOTS}</td>"})
DAMAGES = [
    (set_source("kept", "print('changed')"), "cell 3 is not what the source gives: source differ"),
    (removed_cell, "10 cells, its source gives 11"),
    (removed_tag, "cell 2 is not what the source gives: metadata differ"),
    (other_id, "cell 2 is not what the source gives: id differ"),
    (widget_state, r"notebook metadata holds \['widgets'\]"),
    (python_version, "notebook metadata holds other values"),
    (unstamped, "run in an unknown profile, expected full"),
    (edited_number, "outputs are not those it was built with"),
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
    tiny, lesson, notebook, _ = demo
    broken = copy.deepcopy(notebook)
    damage(broken)
    with pytest.raises(AssertionError, match=message):
        problems = checks.notebook_problems(tiny, lesson, broken)
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


def without_notebook(course):
    course.notebook(course.lessons[0]).unlink()


def without_source(course):
    course.source(course.lessons[0]).unlink()


def unlisted_notebook(course):
    (course.notebooks / "02_extra.ipynb").write_text("{}")


def without_landing_page(course):
    course.landing.unlink()


def changed(path, old, new):
    def damage(course):
        file = course.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return damage


def index_change(old, new):
    return changed("nbkit/course/lessons/course.toml", old, new)


COURSE_DAMAGES = [
    (without_notebook, "no 00_demo.ipynb"),
    (without_source, "no source 00_demo.py"),
    (unlisted_notebook, "02_extra: a file, but"),
    (changed("README.md", "Builds a notebook", "Something else"), "README.md is not what"),
    (changed("nbkit/pairs.py", "come in", "go out"), "README.md is not what"),
    (without_landing_page, "index.ipynb is not what its source gives"),
    (changed("nbkit/course/lessons/index.md", "A demo", "x"), "index.ipynb is not what"),
    (index_change("Builds a notebook", "Other"), "index.ipynb is not what"),
    (index_change("Builds a notebook", "Other"), "README.md is not what"),
    (index_change("next?", "next"), "is not a question"),
    (index_change("minutes = 1", "minutes = 0"), "minutes or memory is missing"),
    (index_change('"01"', '"02"'), "expected 00, 01, ... in order"),
    (index_change("01_later", "later"), "does not begin with 01_"),
]


@pytest.mark.parametrize("damage, message", COURSE_DAMAGES, ids=[m for _, m in COURSE_DAMAGES])
def test_damage_to_the_course_is_named(clone, damage, message):
    damage(clone)
    problems = checks.course_problems(Course.read(clone.root))
    assert any(message in problem for problem in problems), problems


def test_exercise_without_check_is_named(demo, clone):
    _, lesson, notebook, _ = demo
    clone.source(lesson).write_text(SOURCE.replace('tags=["check"]', ""))
    problems = checks.exercise_problems(clone, lesson, notebook)
    assert any("exercise without a check after it" in problem for problem in problems)


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
        assembling.learner(source)


def test_unknown_or_missing_key_in_the_index_is_refused(clone):
    index_change("summary", "sumary")(clone)
    with pytest.raises(ValueError, match="lesson 00: sumary, summary is missing or unknown"):
        Course.read(clone.root)


def test_picture_cell_without_a_figure_is_refused(tmp_path):
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": ["picture"]})
    with pytest.raises(ValueError, match="shows no figure"):
        running.write_picture(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "images" / "x.png")
    figure = nbformat.v4.new_output(
        "display_data", data={"image/png": base64.b64encode(b"p").decode()}
    )
    cell.outputs = [figure]
    running.write_picture(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "images" / "x.png")
    assert (tmp_path / "images" / "x.png").read_bytes() == b"p"
