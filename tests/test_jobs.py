"""Jobs in several processes: the same results, and no way to fail that hangs or leaves a process.

The processes are real. Starting them costs seconds, so most tests share joblib's two workers, and
those that end them stand together; tests of interrupts, exits and sudden ends run a script.
"""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import joblib
import jobs_to_run as work
import psutil
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

import nbkit as nb
from nbkit.cache.files import keep_table
from nbkit.experiments import jobs
from nbkit.experiments.jobs import check_workers, run_jobs

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def leave_no_workers():
    yield
    get_reusable_executor().shutdown(kill_workers=True)


@pytest.fixture(scope="module")
def policies():
    """A plain policy, a LoRA one, and the latter's reference; all have been scored with."""
    small = nb.load_policy("world/small", device="cpu")
    lora = nb.add_lora(nb.load_policy("world/small", device="cpu"))
    torch.manual_seed(0)
    for name, parameter in lora.model.named_parameters():
        if "lora_B" in name:  # zero in a fresh adapter, which then has no effect
            torch.nn.init.normal_(parameter, std=0.1)
    for policy in (made := [small, lora, lora.without_adapter()]):
        work.score(policy, pairs())
    return made


def pairs():
    return nb.world.pairs(12, seed=5)


@pytest.fixture(scope="module")
def losses():
    """Of four models that were trained here."""
    return work.cross_fit(None)


def in_two(function, jobs, **options):
    return dict(run_jobs(function, jobs, 2, progress=False, **options))


def both_processes(folder):
    folder.mkdir()
    return set(in_two(work.meet, [(folder, "a", "b"), (folder, "b", "a")]).values())


# --- results --------------------------------------------------------------------------------------


def test_one_worker_is_this_process_in_order_and_one_job_at_a_time():
    done = []
    for number, pid in run_jobs(lambda n: done.append(n) or os.getpid(), [(0,), (1,), (2,)]):
        assert pid == os.getpid() and done == list(range(number + 1))
    assert done == [0, 1, 2]


def test_every_job_has_its_own_number():
    assert in_two(work.double, [(n,) for n in range(7)]) == {n: 2 * n for n in range(7)}


def test_prepared_calls_answer_under_their_keys_in_their_order():
    calls = {key: partial(work.double, key) for key in (3, 1, 2)}
    for processes in (1, 2):
        done = nb.at_once(calls, processes, progress=False)
        assert list(done.items()) == [(3, 6), (1, 2), (2, 4)]
    assert nb.at_once({}) == {}


def test_no_jobs():
    assert in_two(work.double, []) == {} == dict(run_jobs(work.double, []))


def test_two_jobs_run_side_by_side_and_as_they_finish(tmp_path):
    assert len({os.getpid(), *both_processes(tmp_path / "meeting")}) == 3
    work.touch(tmp_path, "open")
    order = []
    for number, _ in run_jobs(
        work.touch_and_wait, [(tmp_path, 0, "gate"), (tmp_path, 1, "open")], 2, progress=False
    ):
        order.append(number)
        work.touch(tmp_path, "gate")  # job 0 waits for this: for job 1 to be given out first
    assert order == [1, 0]


def test_the_same_processes_serve_the_next_call(tmp_path):
    assert both_processes(tmp_path / "first") == both_processes(tmp_path / "second")


def test_policies_score_alike_in_a_worker(policies):
    tables = in_two(work.score, [(policy, pairs()) for policy in policies])
    for number, policy in enumerate(policies):
        here = work.score(policy, pairs())
        assert tables[number].equals(here) and tables[number].attrs == here.attrs
    assert not tables[1].equals(tables[2])  # adapter on, adapter off
    assert tables[2].equals(tables[0])


def test_training_in_a_worker_is_the_same_and_touches_its_own_copy_only(policies):
    before = [copy.deepcopy(policy.model.state_dict()) for policy in policies[:2]]
    [runs] = in_two(work.train_in_place, [(policies[:2], pairs())]).values()
    for policy, state, run in zip(policies, before, runs):
        now = policy.model.state_dict()
        assert all(torch.equal(state[name], now[name]) for name in state)
        here = work.train(policy, pairs())
        assert run.history.equals(here.history)
        assert work.score(run.policy, pairs()).equals(work.score(here.policy, pairs()))
        assert not work.score(run.policy, pairs()).equals(work.score(policy, pairs()))
        for model in (policy.model, run.policy.model):  # shared memory may be small
            assert not any(p.is_shared() for p in model.parameters())
    model = runs[0].policy.model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight  # tied


def test_one_bar_over_the_jobs(monkeypatch):
    made = []

    class Bar(tqdm):
        def __init__(self, **options):
            made.append((self, options))
            super().__init__(**dict(options, disable=True))

        def update(self, n):
            self.counted = getattr(self, "counted", 0) + n

    monkeypatch.setattr(jobs, "tqdm", Bar)
    list(run_jobs(work.double, [(1,), (2,)], desc="reference models"))
    [(bar, options)] = made
    assert (bar.counted, options["total"], options["desc"]) == (2, 2, "reference models")
    assert options["delay"] == 1 and not options["disable"]


def test_a_warning_reaches_the_caller_each_text_once(tmp_path):
    """And a result that could not be kept is there all the same."""
    (tmp_path / "taken").write_text("a file")
    tables = [(tmp_path / "taken" / f"{n}.parquet", work.frame, n) for n in range(4)]
    with pytest.warns(UserWarning) as heard:
        done = in_two(keep_table, tables)
    assert [done[n].x.tolist() for n in range(4)] == [[n] for n in range(4)]
    assert [str(w.message)[:22] for w in heard] == ["Results cannot be kept"]


def test_workers_share_the_threads_and_show_no_bars_of_libraries():
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        assert in_two(work.threads, [()]) == {0: 3}
        assert in_two(work.bars, [()]) == {0: (False, False)}
    finally:
        torch.set_num_threads(before)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1, 1.5, 2.0, "2", None, True])
def test_workers_must_be_a_number_of_processes(number):
    with pytest.raises(ValueError, match=r"workers=.*; expected a whole number, 1 or more"):
        run_jobs(work.double, [(1,)], number)


def test_a_gpu_a_worker_and_no_more_workers_than_gpus(monkeypatch):
    class OnGPU:
        device, name = torch.device("cuda:0"), "mine"

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_workers(OnGPU, 2)
    with pytest.raises(ValueError, match="workers=3, but 'mine' is on cuda:0.*Use workers=2"):
        check_workers(OnGPU, 3)
    with pytest.raises(ValueError, match="'mine' is on cuda:0"):
        run_jobs(work.score, [(1, 0), (OnGPU, 0)], 3)
    for prepared in (partial(work.score, OnGPU, 0), partial(work.score, policy=OnGPU, column=0)):
        with pytest.raises(ValueError, match="'mine' is on cuda:0"):
            nb.at_once({"a": prepared}, 3)
    with joblib.parallel_config(backend="threading"):  # as on a cluster: that knows its GPUs
        check_workers(OnGPU, 3)


def test_a_policy_on_another_device_is_refused():
    policy = nb.load_policy("world/small", device="cpu")
    check_workers(policy, 2)
    away = nb.Policy(copy.deepcopy(policy.model), policy.tokenizer, "mine")
    away.model.to("meta")  # for want of another device; a policy made there would be refused
    check_workers(away, 1)
    with pytest.raises(ValueError, match="workers=2, but 'mine' is on meta.*Use workers=1"):
        check_workers(away, 2)


def test_jobs_are_tuples():
    with pytest.raises(TypeError, match="Job 1 is of type str; expected a tuple"):
        run_jobs(work.double, [(1,), "ab"], 2)


# --- GPUs, most of it without one -----------------------------------------------------------------


def test_each_worker_takes_a_device_of_its_own_and_a_dead_one_leaves_it(tmp_path):
    def take(me, other):
        device = jobs._free(["first", "second"])
        work.meet(tmp_path, me, other)
        return device

    assert set(in_two(take, [("a", "b"), ("b", "a")]).values()) == {"first", "second"}
    with pytest.raises(RuntimeError, match="A worker process died.*workers=1"):
        in_two(work.die, [(), ()])
    assert in_two(jobs._free, [(["first"],)]) == {0: "first"}


def test_what_was_on_a_gpu_comes_to_the_workers_own(policies, monkeypatch):
    registry = list(torch.serialization._package_registry)
    monkeypatch.setattr(torch.serialization, "_package_registry", registry)
    torch.serialization.register_package(1, lambda storage: "cuda:0", lambda *stored: None)
    from_gpu = pickle.dumps(policies[0])
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            pickle.loads(from_gpu)
    jobs._bring_to("cpu")
    assert work.score(pickle.loads(from_gpu), pairs()).equals(work.score(policies[0], pairs()))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_workers_score_on_two_gpus(tmp_path):
    policy = nb.load_policy("world/small", device="cuda", dtype="float32")
    tables = in_two(work.score, [(policy, pairs())] * 4)
    assert all(table.equals(work.score(policy, pairs())) for table in tables.values())
    given = [(tmp_path, policy, "a", "b"), (tmp_path, policy, "b", "a")]
    assert set(in_two(work.device_in_company, given).values()) == {0, 1}


# --- what goes wrong ------------------------------------------------------------------------------


def test_an_error_shows_the_jobs_own_lines_and_the_next_call_works():
    with pytest.raises(LookupError, match="no such word: zebra") as caught:
        in_two(work.misread, [("zebra",)] * 3)
    assert 'raise LookupError(f"no such word: {word}")' in str(caught.value.__cause__)
    assert in_two(work.double, [(4,)]) == {0: 8}


def test_an_error_that_cannot_be_copied_is_named():
    with pytest.raises(RuntimeError, match="Particular: a fault in a job") as caught:
        in_two(work.be_particular, [()])
    assert "be_particular" in str(caught.value.__cause__)


def test_an_argument_that_cannot_be_copied_is_named():
    with pytest.raises(Exception, match="(?i)could not pickle") as caught:
        in_two(work.double, [(threading.Lock(),)])
    assert "lock" in str(caught.value.__cause__)


@pytest.mark.filterwarnings("error")
def test_leaving_the_loop_early_ends_what_runs_and_begins_no_further_job(tmp_path):
    waiting = [(tmp_path, n, "never") for n in range(12)]
    run = run_jobs(work.touch_and_wait, [(tmp_path, "first", "."), *waiting], 2, progress=False)
    assert next(run) == (0, None)
    run.close()
    begun = set(tmp_path.iterdir())
    wait_until_gone(*worker_pids(tmp_path))
    assert len(in_two(work.double, [(n,) for n in range(6)])) == 6
    assert set(tmp_path.iterdir()) == begun and len(begun) <= 4


def test_a_worker_that_died_while_idle_is_replaced(tmp_path):
    idle, other = both_processes(tmp_path / "meeting")
    os.kill(idle, getattr(signal, "SIGKILL", signal.SIGTERM))
    wait_until_gone(idle, other)  # joblib has noticed
    assert in_two(work.double, [(1,), (2,)]) == {0: 2, 1: 4}


# --- scripts of their own -------------------------------------------------------------------------

BEGIN = """
import os, sys, threading, time
from functools import partial
from pathlib import Path
import jobs_to_run as work
from nbkit.experiments.jobs import run_jobs
folder = Path(sys.argv[1])
def start(name, gate, jobs=6):
    jobs = [(folder, f"{name}{n}", gate) for n in range(jobs)]
    return run_jobs(work.touch_and_wait, jobs, 2, progress=False)
"""

INTERRUPTED = (
    BEGIN
    + """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
for part in ("a", "b"):  # a: while the workers are being started; b: while they work
    threading.Timer(0.3, work.touch, (folder, part)).start()
    try:
        for _ in start(part, "never"):
            pass
    except KeyboardInterrupt:
        print("interrupted", part, flush=True)
def double(number):  # of a notebook's cell
    return 2 * number
print(sorted(run_jobs(double, [(1,), (2,), (3,)], 2)), flush=True)
for _ in start("c", "never"):
    pass
"""
)

LEFT = (
    BEGIN
    + """
import multiprocessing
before = {pid for _, pid in run_jobs(work.meet, [(folder, 1, 2), (folder, 2, 1)], 2)}
if os.name == "posix":  # as a data loader does
    fork = multiprocessing.get_context("fork").Process(target=print)
    fork.start()
    fork.join()
after = {pid for _, pid in run_jobs(work.meet, [(folder, 3, 4), (folder, 4, 3)], 2)}
assert before == after, "the end of a fork ends no workers"
next(run_jobs(work.touch_and_wait, [(folder, "b", "."), (folder, "c", "never")], 2))
"""
)

CROSS_FIT = """
import sys
import jobs_to_run as work
work.cross_fit(sys.argv[1], workers=2)
"""


@pytest.fixture
def script(tmp_path):
    """Starts a script, in a process group of its own as a kernel has one."""
    started = []

    def start(text):
        process = subprocess.Popen(
            [sys.executable, "-c", text, str(tmp_path)], text=True, cwd=HERE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:  # all gone, as they should be
            pass
        process.communicate()


def gone(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return True
    state = Path(f"/proc/{pid}/stat")  # ended, but nobody has asked how
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(*pids, seconds=15):
    until = time.monotonic() + seconds
    while not all(map(gone, pids)):
        assert time.monotonic() < until, f"{[p for p in pids if not gone(p)]} live on"
        time.sleep(0.02)


def worker_pids(folder):
    return {int(f.read_text()) for f in folder.iterdir() if f.name.endswith(" began")}


def descendants(process):
    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


@posix
def test_interrupts_as_jupyter_sends_them(script, tmp_path):
    process = script(INTERRUPTED)
    work.wait_for(tmp_path / "a")
    time.sleep(0.2)
    started = descendants(process)
    os.killpg(process.pid, signal.SIGINT)  # the workers are importing torch
    assert process.stdout.readline() == "interrupted a\n"
    work.wait_for(tmp_path / "b0 began")
    work.wait_for(tmp_path / "b1 began")
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "interrupted b\n"
    assert process.stdout.readline() == "[(0, 2), (1, 4), (2, 6)]\n"
    wait_until_gone(*worker_pids(tmp_path))
    names = {file.name for file in tmp_path.iterdir()}
    assert not {f"{part}{n} began" for part in "ab" for n in range(2, 6)} & names  # not begun

    work.wait_for(tmp_path / "c0 began")
    work.wait_for(tmp_path / "c1 began")
    started += descendants(process)
    os.killpg(process.pid, signal.SIGINT)  # nobody catches it: the script ends, its jobs with it
    _, errors = process.communicate(timeout=15)
    wait_until_gone(*started)
    assert errors.strip().endswith("KeyboardInterrupt")


@posix
@pytest.mark.slow
def test_workers_end_with_a_killed_parent_and_no_digit_of_what_goes_on_changes(
    script, tmp_path, losses
):
    process = script(CROSS_FIT)
    while not list(tmp_path.glob("*.parquet")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    started = descendants(process)
    process.kill()
    wait_until_gone(*started)
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.parquet")}
    assert 0 < len(kept) < 4
    assert work.cross_fit(tmp_path, workers=2).equals(losses)
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())


def test_the_interpreter_ends_though_a_job_runs_on(script, tmp_path):
    process = script(LEFT)
    _, errors = process.communicate(timeout=45)  # job c alone would take a minute
    assert process.returncode == 0 and "Traceback" not in errors
    wait_until_gone(*worker_pids(tmp_path))


# --- other backends of joblib ---------------------------------------------------------------------


def test_threads_take_turns(tmp_path):
    """Trainings set the random states of their process."""
    with joblib.parallel_config(backend="threading"):
        done = in_two(work.alone, [(tmp_path,)] * 3)
    assert done == {n: os.getpid() for n in range(3)}


def test_a_backend_that_hands_over_at_the_end_will_do():
    with joblib.parallel_config(backend="multiprocessing"):  # as Ray's is
        assert in_two(work.double, [(n,) for n in range(3)]) == {0: 0, 1: 2, 2: 4}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Port 8787 is already in use", "ignore:Sending large graph")
def test_dask_gives_the_same_digits(policies, losses):
    distributed = pytest.importorskip("distributed")
    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=None,
                   preload=["nbkit.train.trainers"])  # fmt: skip
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        with joblib.parallel_config(backend="dask"):
            assert work.cross_fit(None, workers=2).equals(losses)
            before = copy.deepcopy(policies[0].model.state_dict())
            calls = {n: partial(work.train_in_place, policies[:1], pairs()) for n in range(3)}
            runs = nb.at_once(calls, 2, progress=False)
            with pytest.raises(LookupError, match="no such word: zebra"):
                in_two(work.misread, [("zebra",)] * 3)
    here = work.train(policies[0], pairs())
    for [run] in runs.values():  # each began with a copy of its own
        assert run.history.equals(here.history)
    now = policies[0].model.state_dict()
    assert all(torch.equal(weights, now[name]) for name, weights in before.items())
