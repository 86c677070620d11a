"""A service manager that keeps descriptors."""
import ctypes
import os
import socket
import sys
import threading

# PID NOTIFY_SOCKET NAMES FD... -- COMMAND: runs a service with descriptors of process PID.
PASS_FDS = """
import ctypes, fcntl, os, sys
pidfd, end = os.pidfd_open(int(sys.argv[1])), sys.argv.index("--")
PIDFD_GETFD = 438
got = [ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(fd), 0) for fd in sys.argv[4:end]]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in got]
os.closerange(3, 100)
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.closerange(100, 200)
os.environ.update(NOTIFY_SOCKET=sys.argv[2], INVOCATION_ID="1")
if high:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)),
                      LISTEN_FDNAMES=sys.argv[3])
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""

_LIBC = ctypes.CDLL(None)
_KCMP, _KCMP_FILE = 312, 0


def is_same(fd, other):
    """Whether the two are one open file (kcmp(2))."""
    pid = os.getpid()
    return _LIBC.syscall(_KCMP, pid, pid, _KCMP_FILE, fd, other) == 0


class Systemd:
    """What sd_pid_notify_with_fds(3) and sd_listen_fds(3) say of a service manager's store."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "systemd")
        self.kept = {}
        self.ready = False  # whether a service has said so
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o666)
        self._socket.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with self._lock:
            self._socket.close()
        for fd in sum(self.kept.values(), []):
            os.close(fd)

    def hear(self):
        """Does what it is told; returns descriptors by name."""
        with self._lock:
            return self._hear()

    def _hear(self):
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._socket, 4096, 16)
            except BlockingIOError:
                return self.kept
            lines = message.decode().splitlines()
            name = next((line[7:] for line in lines if line.startswith("FDNAME=")), "stored")
            self.ready = self.ready or "READY=1" in lines
            if "FDSTORE=1" in lines:
                for fd in fds:
                    self._keep(name, fd)
            elif "FDSTOREREMOVE=1" in lines:
                for fd in self.kept.pop(name, []):
                    os.close(fd)

    def _keep(self, name, fd):
        """Once, under its first name."""
        if any(is_same(fd, kept) for kept in sum(self.kept.values(), [])):
            os.close(fd)
        else:
            self.kept.setdefault(name, []).append(fd)

    def prefix(self):
        """A command that runs another one as a service with what is kept. Made anew for each."""
        kept = self.hear()
        names, fds = [], []
        for name, of_name in kept.items():
            names += [name] * len(of_name)
            fds += reversed(of_name)  # in no certain order
        return [sys.executable, "-c", PASS_FDS, str(os.getpid()), self.path, ":".join(names),
                *map(str, fds), "--"]
