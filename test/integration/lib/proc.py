"""Running commands and keeping servers, each ended by the pid that was started."""
import ctypes
import os
import platform
import signal
import struct
import subprocess
import time
import unittest

from . import env

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class CommandFailed(AssertionError):
    pass


class Result:
    def __init__(self, args, returncode, stdout, stderr):
        self.args = args
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    def __str__(self):
        return (f"{' '.join(self.args)}\nexit status {self.returncode}\n"
                f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}")


def run(args, *, check=True, timeout=60, environment=None, cwd=None, stdin=None):
    """Runs a command to its end. With check, a non-zero status is an error that shows everything.
    stdin: text, or None for /dev/null."""
    args = [str(a) for a in args]
    try:
        done = subprocess.run(
            args, env=environment or env.clean_environment(), cwd=cwd, timeout=timeout, text=True,
            errors="replace", capture_output=True, input=stdin if stdin is not None else "")
    except subprocess.TimeoutExpired as error:
        shown = [(part or b"").decode(errors="replace") for part in (error.stdout, error.stderr)]
        raise CommandFailed(
            f"{' '.join(args)}: no end within {timeout} s\n{shown[0]}\n{shown[1]}") from None
    result = Result(args, done.returncode, done.stdout, done.stderr)
    if check and done.returncode != 0:
        raise CommandFailed(str(result))
    return result


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def wait_until(condition, timeout, what):
    """Polls condition() until it gives something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)


class Process:
    """A program in the background, its output in a file. Also ended when the test dies."""

    def __init__(self, args, log_path, *, environment=None, cwd=None):
        self.args = [str(a) for a in args]
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self._popen = subprocess.Popen(
                self.args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd,
                env=environment or env.clean_environment(), preexec_fn=_die_with_parent)

    @property
    def pid(self):
        return self._popen.pid

    def running(self):
        return self._popen.poll() is None

    def output(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def wait_for(self, condition, timeout, what):
        """wait_until, but fails at once, with the log, when the program has ended."""

        def step():
            if condition():
                return True
            if not self.running():
                raise AssertionError(
                    f"{self.args[0]} ended ({self._popen.returncode}) before {what}")
            return False

        try:
            wait_until(step, timeout, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()[-4000:]}") from None

    def send_signal(self, number):
        self._popen.send_signal(number)

    def wait(self, timeout=30):
        return self._popen.wait(timeout)

    def stop(self, number=signal.SIGTERM, timeout=15):
        """Ends the program; SIGKILL when it does not obey. Returns its status."""
        if self.running():
            self._popen.send_signal(number)
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait(timeout)
        return self._popen.returncode


def path_exists(path):
    return lambda: os.path.exists(path)


def time_slices(pid):
    """The time slices that the threads of a process have asked for, in nanoseconds."""
    if tuple(map(int, platform.release().split(".")[:2])) < (6, 12):
        raise unittest.SkipTest("the kernel has no time slices to ask for (Linux 6.12)")
    sched_getattr = 315 if platform.machine() == "x86_64" else 275
    slices = []
    for task in os.listdir(f"/proc/{pid}/task"):
        attributes = ctypes.create_string_buffer(48)
        if _LIBC.syscall(sched_getattr, int(task), attributes, len(attributes), 0) != 0:
            raise OSError(ctypes.get_errno(), "sched_getattr")
        slices.append(struct.unpack("<IIQiIQQQ", attributes.raw)[5])
    return slices
