"""A request to stop: when it interrupts, when it waits, and how a process ends."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from pipeline import stop
from pipeline.errors import STOP_CODES, Stopped


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_interrupts_work_and_the_handlers_before_are_back(name, monkeypatch):
    monkeypatch.setattr(os, "dup2", lambda *args: None)  # the hang-up of a terminal, whose streams the tests need
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has the tests ignore
    before = [signal.getsignal(number) for number in stop.SIGNALS]
    with pytest.raises(Stopped) as caught, stop.requests_handled():
        send(getattr(signal, name))
    assert (caught.value.reason, caught.value.exit_code) == (name, 128 + getattr(signal, name))
    assert [signal.getsignal(number) for number in stop.SIGNALS] == before
    assert stop.requested() == ""


def test_deferred_work_asks_for_the_request_and_is_not_interrupted():
    steps = []
    with stop.requests_handled():
        with pytest.raises(Stopped), stop.deferred():
            with stop.deferred():  # an inner block may end; the outer one goes on
                send(signal.SIGTERM)
            steps.append(stop.requested())
        assert steps == ["SIGTERM"]


def test_deferred_work_that_does_not_ask_is_interrupted_after_the_grace(monkeypatch):
    monkeypatch.setattr(stop, "GRACE_SECONDS", 0.01)
    with stop.requests_handled(), pytest.raises(Stopped), stop.deferred():
        send(signal.SIGINT)
        while True:
            time.sleep(0.01)


def test_work_that_accepts_the_request_is_not_interrupted(monkeypatch):
    monkeypatch.setattr(stop, "GRACE_SECONDS", 0.01)
    done = False
    with stop.requests_handled(), pytest.raises(Stopped), stop.deferred():
        send(signal.SIGINT)
        stop.accept()
        time.sleep(0.1)
        done = True
    assert done


def test_a_budget_of_time_is_a_request_of_exit_code_0_that_waits_for_deferred_work():
    with stop.requests_handled(), pytest.raises(Stopped) as caught, stop.deferred():
        stop.limit_minutes(1e-9)
        while not stop.requested():
            time.sleep(0.001)
    assert (caught.value.reason, caught.value.exit_code) == ("time", 0)


def test_no_budget_is_no_request():
    with stop.requests_handled():
        stop.limit_minutes(0)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop.requests_handled():
            send(signal.SIGHUP)
            assert stop.requested() == ""
    finally:
        signal.signal(signal.SIGHUP, before)


def test_no_fault_handler_takes_it_for_a_fault():
    assert not isinstance(Stopped("SIGINT"), Exception)
    assert all(Stopped(reason).exit_code == code for reason, code in STOP_CODES.items())


def test_the_line_names_place_and_a_command_that_a_shell_reads_back():
    command = ["python", "-m", "jobs.resume", "my run's; folder"]
    with stop.requests_handled(), stop.continuing(command, lambda: "at update 3 of 9"):
        line = stop.describe(Stopped("SIGTERM"))
    assert line.startswith("stopped by SIGTERM, at update 3 of 9; to go on: ")
    assert shlex.split(line.partition("to go on: ")[2]) == command


def python(code):
    return subprocess.run([sys.executable, "-c", f"import os, signal\nfrom pipeline import stop\n{code}"],
                          capture_output=True, text=True)  # fmt: skip


def test_before_a_command_catches_it_a_signal_is_one_line():
    done = python("stop.catch_signals(); os.kill(os.getpid(), signal.SIGTERM)")
    assert done.returncode == 143
    assert len(done.stderr.strip().splitlines()) > 0
    assert done.stderr.strip().startswith("stopped by SIGTERM; to go on: ")


def test_a_second_signal_ends_the_process_at_once():
    lines = ["with stop.requests_handled(), stop.deferred():"]
    lines += ["    os.kill(os.getpid(), signal.SIGTERM)", "    os.kill(os.getpid(), signal.SIGINT)"]
    done = python("\n".join([*lines, "    print('still here')"]))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
