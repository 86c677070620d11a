"""What happens to an agent that has to go on all the same."""
import copy
import json
import os
import resource
import signal
import time

from . import agent, env
from .proc import run, wait_until

NOFILE = resource.RLIMIT_NOFILE


class SmallDisk:
    """A file system that is soon full. close() takes it away."""

    def __init__(self, path, size="2m"):
        self.path = path
        os.makedirs(path)
        run([env.tool("mount"), "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path])
        self._ballast = os.path.join(path, "ballast")

    def fill(self):
        with open(self._ballast, "ab", buffering=0) as ballast:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError:
                    pass

    def free(self):
        try:
            os.unlink(self._ballast)
        except FileNotFoundError:
            pass

    def close(self):
        run([env.tool("umount"), "--lazy", self.path])


class MemoryCgroup:
    """A cgroup of a process that may not have much more memory than it has."""

    # Where one is made, and what bounds it: of cgroup v1 and v2.
    KINDS = (("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
             ("", "/sys/fs/cgroup", "memory.max"))

    def __init__(self, pid, size):
        kind, root, limit = self._kind()
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as lines:
            own = next(line.split(":")[2].strip() for line in lines if line.split(":")[1] == kind)
        self._before = os.path.join(root, own.lstrip("/"))
        self._path = os.path.join(root, f"oakum-test-{pid}")
        os.mkdir(self._path)
        self._write(self._path, limit, size)
        self._write(self._path, "cgroup.procs", pid)

    @classmethod
    def _kind(cls):
        for kind, root, limit in cls.KINDS:
            try:
                with open(f"{root}/cgroup.subtree_control", encoding="ascii") as controllers:
                    there = "memory" in controllers.read().split()
            except FileNotFoundError:
                there = os.path.exists(os.path.join(root, limit))
            if there:
                return kind, root, limit
        return None

    @classmethod
    def available(cls):
        return cls._kind() is not None

    @staticmethod
    def _write(path, name, value):
        with open(os.path.join(path, name), "w", encoding="ascii") as file:
            file.write(str(value))

    def close(self):
        """Whoever is still in it has what it wants."""
        with open(os.path.join(self._path, "cgroup.procs"), encoding="ascii") as pids:
            for pid in pids.read().split():
                self._write(self._before, "cgroup.procs", pid)
        wait_until(self._is_gone, 30, "it is empty")

    def _is_gone(self):
        try:
            os.rmdir(self._path)
        except OSError:
            return False
        return True


def read_events(path):
    """How many denials its lines stand for; what was cut off by a kill is left out."""
    denied = 0
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)["oakum"]
            except ValueError:
                continue
            if event["verdict"] == "deny":
                denied += event.get("count", 1) + event.get("suppressed", 0)
    return denied


class Faults:
    """Faults of one agent. `policies`: a running agent gets one or another of them; they mean the
    same for whatever is tried. `disk`: where its events are; `kills`: whether it may be ended;
    `only`: names of the kinds of faults, if not all."""

    def __init__(self, guard, chance, policies, disk, kills=True, only=()):
        self._guard, self._chance, self._policies, self._disk = guard, chance, policies, disk
        self._events = guard.events_path
        self._full_until = self._poor_until = None
        self.denied = 0  # of event files that are gone
        self.counts = {}
        self._kinds = [self.stop, self.reload, self.reload_bad, self.fill, self.starve, self.rotate,
                       self.kill_keeper]
        if kills:
            self._kinds += [self.kill, self.kill, self.kill, self.end, self.upgrade]
        if kills and MemoryCgroup.available():
            self._kinds += [self.exhaust]
        if kills and not env.SANITIZED:  # a sanitizer reports memory that it does not get as an error
            self._kinds += [self.squeeze]
        if only:
            self._kinds = [getattr(self, name) for name in only]

    def step(self):
        self.mend(time.monotonic())
        kind = self._chance.choice(self._kinds)
        self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
        kind()

    def mend(self, now=float("inf")):
        """Ends what has lasted long enough by `now`."""
        self._revive()
        if self._full_until is not None and now >= self._full_until:
            self._disk.free()
            self._full_until = None
        if self._poor_until is not None and now >= self._poor_until:
            soft, hard = self._poor_limits
            resource.prlimit(self._guard.process.pid, NOFILE, (soft, hard))
            self._poor_until = None

    # Each of these is a kind of fault.

    def kill(self):
        self._end(signal.SIGKILL)

    def end(self):
        self._end(signal.SIGTERM)

    def _end(self, number):
        self._poor_until = None
        self._guard.stop(number)
        time.sleep(self._chance.choice((0, 0, 0.1, 0.3)))
        self._guard.start()

    def upgrade(self):
        """The next one is started while the one before ends."""
        self._poor_until = None
        self._guard.replace(signal.SIGKILL if env.SANITIZED else
                            self._chance.choice((signal.SIGKILL, signal.SIGTERM)))

    def kill_keeper(self):
        """Another one has all when this returns."""
        if self._poor_until is not None:
            return
        before = self._guard.log().count("is kept again")
        os.kill(self._guard.keeper_pid(), signal.SIGKILL)
        self._guard.process.wait_for(lambda: self._guard.log().count("is kept again") > before,
                                     20, "another keeper")

    def stop(self):
        self._guard.process.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.05, 0.5))
        self._guard.process.send_signal(signal.SIGCONT)

    def reload(self):
        self._guard.set_policy(self._chance.choice(self._policies))
        self._guard.reload()

    def reload_bad(self):
        """It keeps what it has."""
        before = self._guard.log().count("stays in force")
        self._guard.set_policy(self._chance.choice(("{", '{"version": 1, "poilcies": {}}')))
        self._guard.reload()
        self._guard.process.wait_for(lambda: self._guard.log().count("stays in force") > before,
                                     20, "the policy is refused")
        self._guard.set_policy(self._chance.choice(self._policies))

    def fill(self):
        self._disk.fill()
        self._full_until = time.monotonic() + self._chance.uniform(0.1, 2)

    def starve(self):
        """Leaves it hardly a descriptor more than it has."""
        if self._poor_until is not None:
            return
        pid = self._guard.process.pid
        self._poor_limits = resource.prlimit(pid, NOFILE)
        few = len(os.listdir(f"/proc/{pid}/fd")) + self._chance.choice((0, 0, 1, 2, 4))
        resource.prlimit(pid, NOFILE, (few, self._poor_limits[1]))
        self._poor_until = time.monotonic() + self._chance.uniform(0.05, 0.8)

    def squeeze(self):
        """Leaves it hardly any memory more than it has, for a moment: it dies of that, at once or a
        moment later, and another one goes on; or it lives."""
        process = self._guard.process
        kind, name = self._chance.choice(((resource.RLIMIT_AS, "VmSize"),
                                          (resource.RLIMIT_DATA, "VmData")))
        limits = resource.prlimit(process.pid, kind)
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as lines:
            size = next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))
        least = size + self._chance.choice((0, 0, 64 << 10, 1 << 20))
        resource.prlimit(process.pid, kind, (least, limits[1]))
        said = lambda: sum(map(self._guard.log().count, ("is read again", "stays in force")))
        before, more = said(), 0
        if self._chance.random() < 0.7:  # what it has set aside lasts for calls, and not for this
            more = 1
            self._guard.set_policy(self._large())
            self._guard.reload()
        until = time.monotonic() + self._chance.uniform(0.05, 0.8)
        while process.running() and time.monotonic() < until:
            time.sleep(0.005)
        try:
            resource.prlimit(process.pid, kind, limits)
        except ProcessLookupError:
            pass
        wait_until(lambda: not process.running() or said() >= before + more, 20, "it has read it")
        self._revive()

    def exhaust(self):
        """The kernel ends it for want of memory, or it has just enough."""
        process = self._guard.process
        said = lambda: sum(map(self._guard.log().count, ("is read again", "stays in force")))
        before = said()
        cgroup = MemoryCgroup(process.pid, self._chance.choice((1, 2, 4, 8, 32)) << 20)
        self._guard.set_policy(self._large())
        self._guard.reload()
        wait_until(lambda: not process.running() or said() > before, 20, "it has read it, or ended")
        cgroup.close()
        self._revive()

    def _large(self):
        """A policy of megabytes that means the same."""
        large = copy.deepcopy(self._policies[0])
        for policy in large["policies"].values():
            policy["outgoing"]["allow"] += [f"10.{i >> 8}.{i & 255}.1" for i in range(20_000)]
        return large

    def _revive(self):
        if not self._guard.process.running():
            self.counts["revive"] = self.counts.get("revive", 0) + 1
            self._poor_until = None
            self._guard.start()

    def rotate(self):
        """As logrotate does."""
        if self._poor_until is not None or not os.path.exists(self._events):
            return
        old = self._events + ".1"
        os.rename(self._events, old)
        self._guard.reload()
        self._guard.process.wait_for(lambda: os.path.exists(self._events), 20, "the new file")
        self.denied += read_events(old)
        os.unlink(old)
