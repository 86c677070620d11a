"""A quiet container beside one that floods: for fairness_test.py and bench/fairness."""
import json
import os
import threading
import time

from . import agent, bundle, env, proc, rootfs, runtime

BLACK_HOLE, DENIED = "198.51.100.1", "203.0.113.1"
POLICY = agent.single_policy({
    "mode": "enforce",
    "outgoing": {"default": "deny", "allow": ["127.0.0.0/8", BLACK_HOLE]},
    "incoming": {"default": "deny", "allow": ["127.0.0.1/tcp from 127.0.0.0/8", "127.0.0.1/udp"]}})
WAYS = ("udp", "tcp", "accept")
PAUSE_US = 300  # between two calls of the quiet container
# What `flood` is told.
FLOODS = {
    "spin": ["spin", "2"],
    "connects": ["connects", "2", "127.0.0.1"],
    "denied": ["connects", "2", DENIED],
    "scanning": ["scan", "2", DENIED],
    "hanging": ["hang", "10000", BLACK_HOLE],
    "dying": ["dying", "8", "127.0.0.1"],
    "churn": ["churn", "8"],
    "sendmmsg": ["sendmmsg", "2"],
    "listening": ["listen", "4000"],
}


def said(text):
    """The JSON lines of a program, as one."""
    out = {}
    for line in text.splitlines():
        if line.startswith("{"):
            out.update(json.loads(line))
    return out


def own_cgroup():
    """Of the controller that shares processors out."""
    with open("/proc/self/cgroup", encoding="ascii") as groups:
        for line in groups:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                return path
    return "/"


class Sampler:
    """The most that a process has had of memory (KiB), threads and descriptors."""

    def __init__(self, pid):
        self.rss = self.threads = self.fds = 0
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._end.wait(0.1) and os.path.exists(f"/proc/{self._pid}"):
            with open(f"/proc/{self._pid}/status", encoding="ascii", errors="replace") as status:
                fields = dict(line.split(":", 1) for line in status if ":" in line)
            self.rss = max(self.rss, int(fields["VmRSS"].split()[0]))
            self.threads = max(self.threads, int(fields["Threads"]))
            self.fds = max(self.fds, len(os.listdir(f"/proc/{self._pid}/fd")))

    def end(self):
        self._end.set()
        self._thread.join()
        return {"rss": self.rss, "threads": self.threads, "fds": self.fds}


class Yard:
    """Network namespaces of their own, and containers in them."""

    def __init__(self, directory, *, arguments=()):
        self.directory = directory
        self.arguments = arguments
        tag = f"oakf{os.getpid()}"
        self.netns = {"quiet": tag + "q", "flood": tag + "f"}
        ip = env.tool("ip")
        for name in self.netns.values():
            proc.run([ip, "netns", "add", name])
            inside = [ip, "-n", name]
            proc.run([*inside, "link", "set", "lo", "up"])
            # What leaves through it is never heard of again.
            proc.run([*inside, "link", "add", "hole", "type", "veth", "peer", "name", "end"])
            proc.run([*inside, "addr", "add", "192.0.2.1/24", "dev", "hole"])
            for end in ("hole", "end"):
                proc.run([*inside, "link", "set", end, "up"])
            proc.run([*inside, "route", "add", "default", "via", "192.0.2.2"])
            proc.run([*inside, "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev",
                      "hole"])
        self.rootfs = rootfs.make_rootfs(os.path.join(directory, "rootfs"), ("flood",))
        self.bare = runtime.Runtime("runc", directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.bare.close()
        for name in self.netns.values():
            proc.run([env.tool("ip"), "netns", "del", name], check=False)

    def start(self, engine, where, args):
        """A container with `flood`; returns (id, process)."""
        config = bundle.make_config(self.rootfs, ["/bin/flood", *args],
                                    netns=f"/run/netns/{self.netns[where]}",
                                    # Below the cgroup of whoever measures: its share is the same.
                                    cgroups_path=os.path.join(own_cgroup(), runtime.Runtime.new_id()))
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 20000, "soft": 20000}]
        path = bundle.make_bundle(os.path.join(self.directory, runtime.Runtime.new_id()), config)
        container, process = engine.start(path, os.path.join(path, "log"))
        process.wait_for(lambda: "running" in process.output(), 60, "it runs")
        return container, process

    @staticmethod
    def end(engine, container, process):
        """Ends it; returns what it says."""
        proc.run(engine.command("kill", container, "TERM", guarded=False))
        process.wait(60)
        engine.delete(container)
        return said(process.output())

    def quiet(self, engine, seconds):
        """How long the calls of a quiet container took (ns), by way."""
        quiet = self.start(engine, "quiet", ["quiet", str(PAUSE_US)])
        time.sleep(seconds)
        return self.end(engine, *quiet)

    def measure(self, name, seconds):
        """The quiet container's times with an idle machine, beside a guarded flood and beside a bare
        one; the floods' calls; the agent's growth."""
        guard = agent.Agent(self.directory, POLICY, arguments=self.arguments).start()
        engine = runtime.Runtime("runc", self.directory, config=guard.config)
        try:
            row = {"idle": self.quiet(engine, seconds)}
            for how, of in (("guarded", engine), ("bare", self.bare)):
                flood = self.start(of, "flood", FLOODS[name])
                sampler = Sampler(guard.process.pid)
                row[how] = self.quiet(engine, seconds)
                row[how]["agent"] = sampler.end()
                row[how]["flood"] = self.end(of, *flood)
            return row
        finally:
            engine.close()
            guard.stop()


def calls_a_second(row):
    """Of a flood, in which a call that fails is one as well."""
    return sum(number for key, number in row.items() if key != "seconds") / row["seconds"]
