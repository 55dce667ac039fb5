"""Hostile texts: bounded time, a flag, no crash, wherever the grader runs."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.scoring.conftest import REPOSITORY
from ttsv.scoring import ChoiceGrader, MathVerifyGrader, ReleaseGrader
from ttsv.scoring.workers import Worker, close_workers, shared_worker


def boxed(text: str) -> str:
    return rf"\boxed{{{text}}}"


HOSTILE = {
    "100 kB of braces": "{" * 100_000,
    "100 kB of braces in a box": boxed("{" * 50_000 + "}" * 50_000),
    "boxes in boxes": r"\boxed{" * 20_000,
    "backslashes": "\\" * 100_000,
    "dollars": "the answer is " + "$" * 50_000,
    "answers": "answer is " * 20_000,
    "5000 digits": boxed("7" * 5000),
    "1900 digits": boxed("7" * 1900),
    "5000 decimals": boxed("0." + "7" * 5000),
    "power tower": boxed("9^9^9^9"),
    "braced power tower": boxed("9^{9^{9^{9}}}"),
    "exponential tower": boxed("e^{e^{e^{e^{e}}}}"),
    "factorial": boxed("(10^6)!"),
    "factorial of factorials": boxed("9!!!!!!"),
    "huge sum": boxed(r"\sum_{k=1}^{10^9} k"),
    "units in a row": boxed("5" + r"\,\mathrm{kg}\cdot " * 90 + "!"),
    "a line of ####": "#### 5" + " " * 50_000 + "x",
    "headings": "Final Answer\n" * 8000,
    "clauses": boxed(r"5, k\in\mathbb{Z}" * 80),
    "fractions with over": boxed(r"{1\over " * 100 + "2" + "}" * 100),
    "nested parentheses": boxed("(" * 500 + "1" + ")" * 500),
    "nested roots": boxed(r"\sqrt{1+" * 400 + "1" + "}" * 400),
    "bars": boxed("|" * 500),
    "NULs": "\0" * 1000,
    "NULs in a box": boxed("5\0"),
    "lone surrogate": boxed("\ud800"),
    "right-to-left override": boxed("\u202e5"),
    "nothing": "",
    "white space": " \n\t",
    "long words": "answer: " + "x " * 50_000,
    "commas": boxed("," * 1000),
    "signs": boxed(r"\pm 1" * 300),
    "choices of signs": boxed("(" + ",".join([r"\pm 1"] * 20) + ")"),
    "integral": boxed(r"\int_0^1 x^x dx"),
    "hundreds of unit words": boxed("1" + r"\text{ a } " * 170),
    "hundreds of exponents": boxed("x^" * 900),
    "hundreds of spaces": boxed("1" + " " * 1900 + "x_"),
    "half a command": boxed(r"\frac" * 200),
}
READABLE = ("signs", "hundreds of unit words", "units in a row", "clauses")
GRADERS = (MathVerifyGrader(), ReleaseGrader(), ChoiceGrader())


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("gold", ["5", r"x^2+\sqrt{3}"])
def test_hostile_text_is_flagged_within_two_seconds(name: str, gold: str, grader: MathVerifyGrader) -> None:
    start = time.perf_counter()
    verdict = grader.grade([gold], [HOSTILE[name]])[0]
    assert time.perf_counter() - start < 2
    assert not verdict.correct
    assert verdict.flag in ("no_answer", "unparsed", "timeout") or name in READABLE


@pytest.mark.parametrize("other", GRADERS[1:], ids=lambda grader: grader.name)
@pytest.mark.parametrize("name", HOSTILE)
def test_the_other_graders_bear_hostile_text(
    name: str, other: ReleaseGrader | ChoiceGrader, grader: MathVerifyGrader
) -> None:
    start = time.perf_counter()
    verdict = other.grade(["A"], [HOSTILE[name]])[0]
    assert time.perf_counter() - start < 2.5
    assert verdict.flag != "error"


ALGEBRA = (r"\sqrt{8}", boxed(r"2\sqrt{2}"))


def test_grading_works_off_the_main_thread_and_from_several() -> None:
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda _: MathVerifyGrader().grade(*([part] for part in ALGEBRA))[0], range(12)))
    assert all(verdict.correct for verdict in verdicts)


def test_an_outer_alarm_survives_grading() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        MathVerifyGrader().grade([ALGEBRA[0]], [ALGEBRA[1]])
        time.sleep(0.4)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_grading_works_in_a_daemonic_worker_process() -> None:
    script = (
        "import multiprocessing as mp\n"
        "from ttsv.scoring import MathVerifyGrader\n"
        "def work(_):\n    return MathVerifyGrader().grade([r'\\sqrt{8}'], [r'\\boxed{2\\sqrt{2}}'])[0].correct\n"
        "if __name__ == '__main__':\n"
        "    with mp.get_context('fork').Pool(1) as pool:\n        print(pool.map(work, [0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.stdout.strip() == "[True]", done.stderr


def workers() -> list[psutil.Process]:
    """The worker processes of this process, supervisors and their children, that are alive."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE and "ttsv.scoring.worker_process" in process.cmdline():
                found.append(process)
    return found


@pytest.fixture
def alone() -> Iterator[None]:
    """No other worker is running."""
    close_workers()
    yield
    close_workers()


@pytest.mark.parametrize("which", ["supervisor", "child"])
def test_a_worker_killed_while_idle_is_replaced_without_loss(alone: None, which: str) -> None:
    worker = Worker(5.0, 1024, ())
    assert worker.call("math", "sqrt", 4.0).value == 2.0
    supervisor, child = workers()
    victim = supervisor if which == "supervisor" else child
    victim.kill()
    time.sleep(0.3)
    assert worker.call("math", "sqrt", 9.0).value == 3.0
    worker.close()


@pytest.mark.parametrize("which", ["supervisor", "child"])
def test_a_row_whose_worker_dies_is_flagged_error_and_the_next_is_graded(alone: None, which: str) -> None:
    worker = Worker(5.0, 1024, ())
    assert worker.call("os", "getpid").kind == "value"
    supervisor, child = workers()
    victim = supervisor if which == "supervisor" else child
    threading.Timer(0.3, victim.kill).start()
    start = time.perf_counter()
    assert worker.call("time", "sleep", 4).kind == "error"
    assert time.perf_counter() - start < 2
    assert worker.call("math", "sqrt", 4.0).value == 2.0
    worker.close()
    time.sleep(0.2)
    assert workers() == []


def test_a_dying_job_costs_its_row_only() -> None:
    worker = Worker(5.0, 1024, ())
    assert worker.call("os", "abort").kind == "error"
    assert worker.call("math", "sqrt", 4.0).value == 2.0
    worker.close()


def test_a_slow_job_times_out_and_a_greedy_one_is_stopped() -> None:
    worker = Worker(0.3, 512, ())
    assert worker.call("math", "sqrt", 4.0).value == 2.0
    start = time.perf_counter()
    assert worker.call("time", "sleep", 30).kind == "timeout"
    assert time.perf_counter() - start < 1
    greedy = worker.call("builtins", "bytearray", 2**31)
    assert greedy.kind == "error"
    assert "memory" in greedy.value
    assert worker.call("math", "sqrt", 4.0).value == 2.0
    worker.close()


def test_a_timeout_is_an_outcome_of_its_own() -> None:
    grader = MathVerifyGrader(timeout_s=0.001)
    verdicts = grader.grade([ALGEBRA[0], "5"], [boxed(r"\sqrt{3}+\sin(x^2)^{3}\cdot\frac{1}{y+1}"), boxed("5")])
    assert [verdict.flag for verdict in verdicts] == ["timeout", "ok"]
    assert not verdicts[0].correct


def test_workers_end_when_they_are_closed(alone: None) -> None:
    assert shared_worker(1.0, 1024, ()).call("math", "sqrt", 4.0).kind == "value"
    assert len(workers()) == 2
    close_workers()
    time.sleep(0.3)
    assert workers() == []
