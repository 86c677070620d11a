"""A service manager that keeps descriptors."""
import ctypes
import itertools
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

_IDS = itertools.count()
_LIBC = ctypes.CDLL(None)
_KCMP, _KCMP_FILE = 312, 0
_CLONE_NEWNET = 0x40000000


def compare(fd, other):
    """0: the two are one open file; 1, 2: one comes before the other in an order of the kernel's."""
    pid = os.getpid()
    return _LIBC.syscall(_KCMP, pid, pid, _KCMP_FILE, fd, other)


def make_socket(queue):
    """For datagrams, of which no more than `queue` wait to be read."""
    made = []

    def make():
        if queue is not None:  # that is what a network namespace says (unix(7), max_dgram_qlen)
            _LIBC.unshare(_CLONE_NEWNET)
            with open("/proc/sys/net/unix/max_dgram_qlen", "w", encoding="ascii") as most:
                most.write(str(queue))
        made.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


class Systemd:
    """What sd_pid_notify_with_fds(3) and sd_listen_fds(3) say of a service manager's store."""

    def __init__(self, directory, queue=None):
        self.path = os.path.join(directory, f"systemd-{next(_IDS)}")
        self.kept = {}
        self._order = []  # descriptors, as compare() has them
        self.ready = False  # whether a service has said so
        self._lock = threading.Lock()
        self._socket = make_socket(queue)
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
                    self._order.remove(fd)
                    os.close(fd)

    def _keep(self, name, fd):
        """Once, under its first name."""
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            order = compare(fd, self._order[middle])
            if order == 0:
                os.close(fd)
                return
            low, high = (low, middle) if order == 1 else (middle + 1, high)
        self._order.insert(low, fd)
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
