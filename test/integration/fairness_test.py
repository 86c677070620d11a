"""A container that floods takes nothing from another one, grows the agent by a bounded amount, and is
counted exactly, whatever becomes of the file that events are written to."""
import collections
import json
import os
import threading
import time

from lib import agent, case, env, fairness, proc, runtime

SECONDS = float(os.environ.get("OAKUM_FAIRNESS_SECONDS", "0.4"))
# A machine that does other work as well has bad moments: what is too long is measured again.
ATTEMPTS = 6
# The quiet container's p99 beside a guarded flood: so many times what it is beside the same flood
# without Oakum, or so long (ns). bench/fairness has the figures.
TIMES, LONG_NS = 4, 5_000_000
# Beside callers that die: beside processes that come and go as fast and make no call, for those whose
# calls nobody holds take both processors.
BESIDE = {"dying": "churn"}
# What the agent may grow by: threads of one container (BlockingPool) and a few more, descriptors of
# calls that wait, memory (KiB).
THREADS, FDS, MEMORY = 80, 1024 + 64, 64 * 1024
KINDS = (("denied", "dying") if env.SANITIZED else
         ("connects", "denied", "hanging", "dying", "sendmmsg", "listening"))


def counted(lines, verdict="deny"):
    """How many events these lines stand for."""
    return sum(event["oakum"].get("count", 1) + event["oakum"].get("suppressed", 0)
               for event in map(json.loads, lines) if event["oakum"]["verdict"] == verdict)


def processor_time(pid):
    """Of a process's threads (ns), by their names."""
    times = collections.Counter()
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/comm", encoding="ascii") as name, \
                    open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
                times[name.read().strip()] += int(stat.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended
    return times


class Reader:
    """Takes lines from a FIFO: `most` bytes, so many a second; then it is gone, in the middle of a
    line or not."""

    def __init__(self, path, most=None, a_second=None):
        self.lines = []
        self._path, self._most, self._rate = path, most, a_second
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        text, taken = b"", 0
        while not self._end.is_set() and (self._most is None or taken < self._most):
            try:
                got = os.read(fd, 4096)
            except BlockingIOError:
                got = b""
            text, taken = text + got, taken + len(got)
            *whole, text = text.split(b"\n")
            self.lines += whole
            if not got:
                time.sleep(0.01)
            elif self._rate:
                time.sleep(len(got) / self._rate)
        os.close(fd)

    def wait(self):
        """Until it has taken what it was to take."""
        self._thread.join(60)

    def close(self):
        self._end.set()
        self.wait()


class Fairness(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.yard = fairness.Yard(cls.directory)
        cls.addClassCleanup(cls.yard.close)

    def guard(self, events=None):
        """A running agent and the runtime that uses it."""
        guard = agent.Agent(self.directory, fairness.POLICY)
        guard.events_path = events or guard.events_path
        guard.start()
        self.addCleanup(guard.stop)
        engine = runtime.Runtime("runc", self.directory, config=guard.config)
        self.addCleanup(engine.close)
        return guard, engine

    def check_quiet(self, engine, reference, what):
        """The quiet container's calls do not take long beside what goes on, and all of them work.
        reference(): the times to compare with, where they are needed."""
        for attempt in range(ATTEMPTS):
            times = self.yard.quiet(engine, SECONDS)
            self.assertFalse(set(times) - {"seconds", "done", *fairness.WAYS}, (what, times))
            if env.SANITIZED:
                return  # its times are the sanitizer's
            late = [way for way in fairness.WAYS if times[way]["p99"] > LONG_NS]
            if late:
                beside = reference()
                late = [way for way in late if times[way]["p99"] > TIMES * beside[way]["p99"]]
            if not late:
                return
            print(f"{what}: {late} in {times}, attempt {attempt}", flush=True)
        self.fail(f"{what}: {late} took long {ATTEMPTS} times: {times}, and {beside}")

    def bare(self, kind):
        """The quiet container's times beside a flood without Oakum, under an agent of its own."""
        _, engine = self.guard()
        flood = self.yard.start(self.yard.bare, "flood", fairness.FLOODS[BESIDE.get(kind, kind)])
        times = self.yard.quiet(engine, SECONDS)
        self.yard.end(self.yard.bare, *flood)
        return times

    def test_a_flood_takes_nothing_from_another_container(self):
        guard, engine = self.guard()
        self.yard.quiet(engine, 0.1)
        before = fairness.Sampler(guard.process.pid)
        time.sleep(0.3)
        before = before.end()
        for kind in KINDS:
            with self.subTest(kind):
                flood = self.yard.start(engine, "flood", fairness.FLOODS[kind])
                sampler = fairness.Sampler(guard.process.pid)
                try:
                    self.check_quiet(engine, lambda: self.bare(kind), kind)
                finally:
                    flooded = self.yard.end(engine, *flood)
                    most = sampler.end()
                print(kind, flooded, most, flush=True)
                self.assertLess(most["threads"], before["threads"] + THREADS)
                self.assertLess(most["fds"], before["fds"] + FDS)
                if not env.SANITIZED:
                    self.assertLess(most["rss"], before["rss"] + MEMORY)

    def test_what_hung_is_given_back(self):
        guard, engine = self.guard()
        fds = f"/proc/{guard.process.pid}/fd"
        before = len(os.listdir(fds))
        flood = self.yard.start(engine, "flood", fairness.FLOODS["hanging"])
        proc.wait_until(lambda: len(os.listdir(fds)) >= before + 1024, 30, "1,024 calls wait")
        self.yard.end(engine, *flood)
        proc.wait_until(lambda: len(os.listdir(fds)) <= before, 30, "nothing is left of them")

    def test_calls_that_wait_are_looked_at_aside(self):
        # By the reactor, each look delayed whatever else it was to go on with: of any container.
        guard, engine = self.guard()
        pid = guard.process.pid
        before = len(os.listdir(f"/proc/{pid}/fd"))
        flood = self.yard.start(engine, "flood", fairness.FLOODS["hanging"])
        proc.wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= before + 1024, 30,
                        "1,024 calls wait")
        begun = processor_time(pid)
        time.sleep(1)
        took = processor_time(pid)
        self.yard.end(engine, *flood)
        reactor, aside = (took[name] - begun[name] for name in ("reactor", "blocking"))
        print(f"reactor {reactor} ns, aside {aside} ns", flush=True)
        self.assertGreater(aside, 0)
        self.assertLess(2 * reactor, aside)

    def flood_of_denials(self, engine, kind):
        """Starts it; returns a function that ends it and returns how many calls it has made."""
        flood = self.yard.start(engine, "flood", fairness.FLOODS[kind])

        def end():
            said = self.yard.end(engine, *flood)
            self.assertEqual(set(said), {"seconds", "done", "EACCES"}, said)
            self.assertEqual(said["done"], 0)
            return said["EACCES"]

        return end

    def test_events_add_up_over_a_full_disk(self):
        disk = os.path.join(self.directory, "disk")
        os.makedirs(disk)
        proc.run([env.tool("mount"), "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk])
        self.addCleanup(proc.run, [env.tool("umount"), "-l", disk])
        path = os.path.join(disk, "events.jsonl")
        guard, engine = self.guard(path)
        filler = os.path.join(disk, "filler")
        with open(filler, "wb") as out:
            room = os.statvfs(disk)
            os.posix_fallocate(out.fileno(), 0, (room.f_bavail - 3) * room.f_frsize)
        end = self.flood_of_denials(engine, "scanning")
        proc.wait_until(lambda: "No space left" in guard.log(), 30, "the disk is full")
        self.check_quiet(engine, lambda: self.bare("scanning"), "full disk")
        os.unlink(filler)
        made = end()
        self.assertEqual(guard.stop(), 0)
        with open(path, "rb") as lines:
            self.assertEqual(counted(lines), made)

    def test_events_add_up_over_slow_and_dead_readers(self):
        path = os.path.join(self.directory, "events.fifo")
        os.mkfifo(path)
        guard, engine = self.guard(path)
        end = self.flood_of_denials(engine, "scanning")
        readers = []
        for most, a_second in ((70_001, None), (40_000, 50_000), (1, None)):
            readers.append(Reader(path, most, a_second))
            if a_second:
                self.check_quiet(engine, lambda: self.bare("scanning"), "slow reader")
            readers[-1].wait()
            time.sleep(1.5)  # nobody reads, and the agent finds that out
        self.check_quiet(engine, lambda: self.bare("scanning"), "no reader")
        made = end()
        readers.append(Reader(path))
        self.addCleanup(readers[-1].close)
        lines = lambda: [line for reader in readers for line in list(reader.lines)]
        try:
            proc.wait_until(lambda: counted(lines()) >= made, 20, "all events came")
        finally:
            print(f"{counted(lines())} of {made} counted", flush=True)
        self.assertEqual(guard.stop(), 0)
        readers[-1].close()
        self.assertEqual(counted(lines()), made)

    def test_the_agent_is_ready_for_many(self):
        guard, _ = self.guard()
        pid = guard.process.pid
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            room = next(int(line.split()[1]) for line in status if line.startswith("FDSize"))
        with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
            limit = next(int(line.split()[3]) for line in limits if "Max open files" in line)
        self.assertGreaterEqual(room, min(limit, 16384) - 64)
        self.assertEqual(set(proc.time_slices(pid)), {100_000})


if __name__ == "__main__":
    case.main()
