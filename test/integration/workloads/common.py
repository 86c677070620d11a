"""What the workloads share. Each is a program that runs inside a container, makes what it needs below
/tmp, starts its own servers there, checks what came out, and prints one JSON line: `outcome`, which
does not depend on the machine, and `figures`, which do. Only the standard library."""
import ctypes
import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import time

WORK = "/tmp/work"
# The far side of the container's network: nothing but packets gets there.
FAR = os.environ.get("OAKUM_FAR", "")
REFUSED = os.environ.get("OAKUM_REFUSED", "")


def work_directory():
    """An empty directory to work in, which becomes the current one."""
    os.makedirs(WORK)
    os.chdir(WORK)
    return WORK


def run(*args, statuses=(0,), timeout=60, stdin=None, **environment):
    """Runs a command to its end and returns its output; any other status is the end of it all."""
    done = subprocess.run(args, env={**os.environ, **environment}, timeout=timeout, text=True,
                          errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          input=stdin if stdin is not None else "")
    if done.returncode not in statuses:
        sys.exit(f"{' '.join(args)}: exit status {done.returncode}\n"
                 f"--- stdout\n{done.stdout[-4000:]}\n--- stderr\n{done.stderr[-4000:]}")
    return done.stdout


def status(*args, timeout=60, **environment):
    """The exit status of a command."""
    return subprocess.run(args, env={**os.environ, **environment}, timeout=timeout,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode


def wait_until(condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {timeout} s: {what}")
        time.sleep(0.01)


def listens(address):
    """Whether somebody answers at a (host, port) or at the path of a unix socket."""
    if isinstance(address, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


class Server:
    """A program in the background, up to the end of the `with` block. It is there when somebody
    answers at `listens_at`, or when it has said `says`."""

    def __init__(self, *args, listens_at=None, says=None, **environment):
        self._args = args
        self._environment = environment
        self._address = listens_at
        self._says = says
        self._log = f"{WORK}/{os.path.basename(args[0])}-{os.getpid()}-{id(self)}.log"
        self._popen = None

    def log(self):
        with open(self._log, encoding="utf-8", errors="replace") as text:
            return text.read()

    def _answers(self):
        if self._popen.poll() is not None:
            sys.exit(f"{self._args[0]} ended with {self._popen.returncode}\n{self.log()[-4000:]}")
        return listens(self._address) if self._says is None else self._says in self.log()

    def __enter__(self):
        with open(self._log, "wb") as log:
            self._popen = subprocess.Popen(
                self._args, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        wait_until(self._answers, f"{self._args[0]} is ready")
        return self

    def __exit__(self, *_):
        self._popen.terminate()
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait(20)
            sys.exit(f"{self._args[0]} does not obey SIGTERM\n{self.log()[-4000:]}")


def write(path, text):
    """Writes a text or bytes below the current directory. Returns the path."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "wb") as out:
        out.write(text if isinstance(text, bytes) else text.encode())
    return path


def pattern(size, seed=1):
    """Bytes that are different at every place, and the same in every run."""
    block = hashlib.sha256(str(seed).encode()).digest()
    out = bytearray()
    while len(out) < size:
        out += block
        block = hashlib.sha256(block).digest()
    return bytes(out[:size])


def sha256(path):
    with open(path, "rb") as content:
        return hashlib.sha256(content.read()).hexdigest()[:16]


def certificate():
    """A certificate for localhost that is its own authority: (certificate, key)."""
    run("/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    return os.path.abspath("cert.pem"), os.path.abspath("key.pem")


class Timer:
    """Seconds of a `with` block."""

    seconds = 0.0

    def __enter__(self):
        self._start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self._start


def guard():
    """What two calls get that only a guard refuses: a connect to an address that the policy names
    (everywhere else on the far side somebody says that nothing listens there), and a system call
    that is not on the strict list (PTRACE_CONT of a process that does not exist)."""
    with socket.socket() as probe:
        probe.settimeout(20)
        connected = probe.connect_ex((REFUSED, 1))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace(7, -1, None, None)
    return [errno.errorcode.get(connected, ""), errno.errorcode[ctypes.get_errno()]]


def report(outcome, **figures):
    print(json.dumps({"outcome": outcome, "guard": guard(),
                      "figures": {name: round(value, 3) for name, value in figures.items()}}))
