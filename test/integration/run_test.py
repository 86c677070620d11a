"""`oakum run`: one ordinary program under a guard of its own, as root and as an ordinary user."""
import json
import os
import re
import shutil
import signal

from lib import case, env, network
from lib.agent import single_policy, write_json
from lib.proc import Process, run, time_slices, wait_until
from lib.runtime import parse_probe

_FAR = network.FarSide
_BAD = f"tcp {_FAR.BAD4} 80 hello"
_GOOD = f"tcp {_FAR.GOOD4} 80 hello"
_ENFORCE = ("--mode", "enforce", "--allow", _FAR.GOOD4, "--allow", f"[{_FAR.GOOD6}]")

_CONNECTS = ("import socket\n"
             "def connects(count):\n"
             "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:\n"
             "        for _ in range(count): one.connect(('127.0.0.1', 9))\n")


def flags_set(lines):
    """What SECCOMP_IOCTL_NOTIF_SET_FLAGS, whose number is 4, was called with, in this order."""
    numbers = re.compile(r"ioctl\(\d+, (?:SECCOMP_IOCTL_NOTIF_SET_FLAGS"
                         r"|_IOC\(_IOC_WRITE, 0x21, 0x4, 0x8\)), (\w+)(?:\) = 0| <unfinished)")
    return [int(found.group(1), 0) for line in lines if (found := numbers.search(line))]


class Run:
    PREFIX = ()  # what makes the command run as somebody else

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        # The build folder may be closed to the ordinary user.
        cls.oakum = shutil.copy(env.program("oakum"), cls.directory)
        cls.probe = shutil.copy(env.test_program("probe"), cls.directory)
        cls.work = os.path.join(cls.directory, "work")
        os.mkdir(cls.work)
        os.chmod(cls.work, 0o1777)

    def setUp(self):
        self.far.reset()

    def path(self, name):
        return os.path.join(self.work, f"{self.id().rpartition('.')[2]}-{name}")

    def plain(self, *command):
        return self.far.exec_inner(*self.PREFIX, *command, check=False)

    def run_guarded(self, options, *command):
        return self.plain(self.oakum, "run", *options, *command)

    def start(self, options, *command):
        args = [env.tool("ip"), "netns", "exec", self.far.inner, *self.PREFIX, self.oakum, "run",
                *options, *command]
        process = Process(args, self.path("log"))
        self.addCleanup(process.stop)
        return process

    def assertNothingLeft(self, address):
        self.assertEqual(self.far.packets(address), 0)

    def test_enforce(self):
        """What leaks without the guard is refused, and told; what is allowed works."""
        for step in parse_probe(self.plain(self.probe, _BAD, f"udp {_FAR.BAD4} 53 x").stdout):
            self.assertWorked(step)
        self.far.settle(_FAR.BAD4, 2)
        self.far.reset()
        done = self.run_guarded(_ENFORCE, "--", self.probe, _BAD, _GOOD, f"udp {_FAR.BAD4} 53 x",
                                f"tcp {_FAR.GOOD6} 80 hello", f"tcp {_FAR.BAD6} 80 hello")
        self.assertEqual(done.returncode, 0, done)
        bad, good, dns, good6, bad6 = parse_probe(done.stdout)
        for step in (bad, dns, bad6):
            self.assertFailed(step, "EACCES")
        for step in (good, good6):
            self.assertWorked(step)
        self.far.settle(_FAR.GOOD4)
        self.far.settle(_FAR.GOOD6)
        self.assertNothingLeft(_FAR.BAD4)
        self.assertNothingLeft(_FAR.BAD6)
        self.assertIn("program probe", done.stderr)
        self.assertIn("3 leaks, all stopped", done.stderr)
        self.assertIn(f"{_FAR.BAD4}:80/tcp", done.stderr)
        self.assertNotIn(_FAR.GOOD4, done.stderr)

    def test_children_are_guarded(self):
        done = self.run_guarded(_ENFORCE, "sh", "-c", f"sh -c '{self.probe} \"{_BAD}\"; true'")
        self.assertFailed(parse_probe(done.stdout)[0], "EACCES")
        self.assertNothingLeft(_FAR.BAD4)

    def test_audit(self):
        """Everything passes, and --fail-on-leak makes a leak an exit status of its own."""
        options = ("--mode", "audit", "--allow", _FAR.GOOD4)
        done = self.run_guarded(options, self.probe, _BAD)
        self.assertEqual(done.returncode, 0, done)
        self.assertWorked(parse_probe(done.stdout)[0])
        self.far.settle(_FAR.BAD4)
        self.assertIn("1 leak, not stopped", done.stderr)
        done = self.run_guarded((*options, "--fail-on-leak"), self.probe, _BAD)
        self.assertEqual(done.returncode, 77, done)
        done = self.run_guarded((*options, "--fail-on-leak"), self.probe, _GOOD)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)

    def test_kill(self):
        """The program ends, and so does all that it has started."""
        done = self.run_guarded(("--mode", "kill"), "sh", "-c",
                                f"(setsid sleep 50 &); {self.probe} '{_BAD}'; echo alive")
        self.assertEqual(done.returncode, 128 + signal.SIGKILL, done)
        self.assertNotIn("alive", done.stdout)
        self.assertIn("kill", done.stderr)
        self.assertNothingLeft(_FAR.BAD4)

    def test_exit_status(self):
        for command, status in ((("true",), 0), (("sh", "-c", "exit 3"), 3),
                                (("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM),
                                (("no-such-program",), 127), (("/etc/passwd",), 126),
                                (("--", "true"), 0)):
            done = self.run_guarded(_ENFORCE, *command)
            self.assertEqual(done.returncode, status, done)
        self.assertIn("no-such-program: No such file",
                      self.run_guarded(_ENFORCE, "no-such-program").stderr)
        done = self.run_guarded(_ENFORCE, "echo", "-n", "--report", "x", "--", "y")
        self.assertEqual(done.stdout, "--report x -- y")

    def test_policy_file(self):
        one = write_json(self.path("one.json"), single_policy(
            {"mode": "enforce", "outgoing": {"default": "deny", "allow": [_FAR.GOOD4]}}))
        done = self.run_guarded(("--policy", one), self.probe, _BAD, _GOOD)
        bad, good = parse_probe(done.stdout)
        self.assertFailed(bad, "EACCES")
        self.assertWorked(good)
        two = write_json(self.path("two.json"), {"version": 1, "policies": {
            "closed": {"mode": "enforce", "outgoing": {"default": "deny"}},
            "open": {"mode": "enforce", "outgoing": {"default": "allow"}}}})
        done = self.run_guarded(("--policy", two), "true")
        self.assertEqual(done.returncode, 2)
        self.assertIn("(closed, open)", done.stderr)
        done = self.run_guarded(("--policy", two, "--name", "closed"), self.probe, _GOOD)
        self.assertFailed(parse_probe(done.stdout)[0], "EACCES")
        done = self.run_guarded(("--policy", two, "--name", "open"), self.probe, _GOOD)
        self.assertWorked(parse_probe(done.stdout)[0])
        bad = write_json(self.path("bad.json"), '{\n "version": 1,\n "polices": {}\n}\n')
        done = self.run_guarded(("--policy", bad), "touch", self.path("ran"))
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"{bad}:3:2: ", done.stderr)
        self.assertFalse(os.path.exists(self.path("ran")))

    def test_report_and_events(self):
        report, events = self.path("report.json"), self.path("events.jsonl")
        done = self.run_guarded((*_ENFORCE, "--report", report, "--events", events), self.probe,
                                _BAD, _BAD)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        with open(report, encoding="utf-8") as text:
            summary = json.load(text)
        self.assertEqual(summary["summary"]["leaks"], 2)
        self.assertEqual(summary["containers"][0]["rows"][0]["destination"], f"{_FAR.BAD4}:80/tcp")
        with open(events, encoding="utf-8") as lines:
            parsed = [json.loads(line) for line in lines]
        self.assertEqual([e["oakum"]["verdict"] for e in parsed], ["deny", "deny"])
        self.assertEqual(parsed[0]["container"]["name"], "probe")
        done = self.run_guarded((*_ENFORCE, "--events", "/no/such/dir/x"), "touch", self.path("ran"))
        self.assertEqual(done.returncode, 2, done)
        self.assertFalse(os.path.exists(self.path("ran")))

    def test_stays_for_what_is_left_behind(self):
        done = self.run_guarded(
            _ENFORCE, "sh", "-c", f"(sleep 1.5; exec {self.probe} '{_BAD}' '{_GOOD}') & exit 4")
        self.assertEqual(done.returncode, 4, done)
        bad, good = parse_probe(done.stdout)
        self.assertFailed(bad, "EACCES")
        self.assertWorked(good)
        self.assertIn("waiting for the processes that it left behind", done.stderr)
        self.assertNothingLeft(_FAR.BAD4)

    def test_signals_are_passed_on(self):
        ready = self.path("ready")
        process = self.start(_ENFORCE, "sh", "-c",
                             f"trap 'exit 9' TERM; touch {ready}; while :; do sleep 0.05; done")
        process.wait_for(lambda: os.path.exists(ready), 30, "the program runs")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 9)

    def test_signals_reach_what_is_left_behind(self):
        process = self.start(_ENFORCE, "sh", "-c", "sleep 50 & exit 5")
        process.wait_for(lambda: "left behind" in process.output(), 30, "oakum waits")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 5)

    def killed(self, options, kills, end="exit 5"):
        """A program whose guard, or the guard's keeper, is killed between two rounds of calls.
        Returns what it has tried afterwards, and the process that was started."""
        go, log = self.path("go"), self.path("log")
        process = self.start(options, "sh", "-c",
                             f"{self.probe} '{_BAD}'; echo started; "
                             f"{self.probe} 'wait {go}' '{_BAD}' '{_GOOD}'; {end}")
        process.wait_for(lambda: "started" in process.output(), 30, "the program runs")
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
            pids = {"keeper": process.pid, "guard": int(children.read())}
        for name in kills:
            os.kill(pids[name], signal.SIGKILL)
            if name == "guard":
                wait_until(lambda: not os.path.exists(f"/proc/{pids['guard']}"), 30, "its end")
        with open(go, "w", encoding="ascii"):
            pass
        self.wait_for_steps(log, 3)
        return self.tcp_steps(log)[1:], process

    def tcp_steps(self, log):
        return [step for step in self.probe_lines(log) if step["op"] == "tcp"]

    def wait_for_steps(self, log, count):
        wait_until(lambda: len(self.tcp_steps(log)) >= count, 20, "the program has tried")

    def test_a_guard_that_is_killed_has_a_successor(self):
        report = self.path("report.json")
        (bad, good), process = self.killed((*_ENFORCE, "--report", report), ["guard"])
        self.assertFailed(bad, "EACCES")
        self.assertWorked(good)
        self.assertEqual(process.wait(), 5)
        self.assertIn("the guard has died (signal 9)", process.output())
        with open(report, encoding="utf-8") as text:
            self.assertEqual(json.load(text)["summary"]["leaks"], 2, "one of them was told to the first guard")
        self.assertNothingLeft(_FAR.BAD4)

    def test_a_successor_passes_signals_on(self):
        steps, process = self.killed(_ENFORCE, ["guard"], end="exec sleep 50")
        self.assertEqual(len(steps), 2)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 128 + signal.SIGTERM)

    def test_a_later_guard_goes_on_without_its_keeper(self):
        go = self.path("go")
        process = self.start(_ENFORCE, "sh", "-c",
                             f"echo started; {self.probe} 'wait {go}' '{_BAD}' '{_GOOD}'")
        process.wait_for(lambda: "started" in process.output(), 10, "the program runs")
        os.kill(self.children(process)[0], signal.SIGKILL)
        process.wait_for(lambda: "another one goes on" in process.output(), 10, "the next guard")
        guard = max(self.children(process))
        os.kill(process.pid, signal.SIGKILL)
        with open(go, "w", encoding="ascii"):
            pass
        self.wait_for_steps(self.path("log"), 2)
        bad, good = self.tcp_steps(self.path("log"))
        self.assertFailed(bad, "EACCES")
        self.assertWorked(good)
        wait_until(lambda: not os.path.exists(f"/proc/{guard}"), 10, "the guard ends with the program")

    def test_a_later_guard_kills(self):
        """All that the program has started, which is the keeper's by then."""
        go = self.path("go")
        process = self.start(("--mode", "kill"), "sh", "-c",
                             f"setsid sleep 50 & echo sleeps $! .; "
                             f"{self.probe} 'wait {go}' '{_BAD}'; echo alive")
        process.wait_for(lambda: "sleeps" in process.output(), 10, "the program runs")
        sleeps = re.search(r"sleeps (\d+) ", process.output()).group(1)
        os.kill(self.children(process)[0], signal.SIGKILL)
        process.wait_for(lambda: "another one goes on" in process.output(), 10, "the next guard")
        with open(go, "w", encoding="ascii"):
            pass
        self.assertEqual(process.wait(20), 128 + signal.SIGKILL, process.output())
        self.assertNotIn("alive", process.output())
        wait_until(lambda: not os.path.exists(f"/proc/{sleeps}"), 10, "its end, and who waits for it")
        self.assertNothingLeft(_FAR.BAD4)

    @staticmethod
    def children(process):
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
            return [int(pid) for pid in children.read().split()]

    def test_a_guard_goes_on_without_its_keeper(self):
        report = self.path("report.json")
        (bad, good), _ = self.killed((*_ENFORCE, "--report", report), ["keeper"])
        self.assertFailed(bad, "EACCES")
        self.assertWorked(good)
        wait_until(lambda: os.path.exists(report), 30, "the report")
        self.assertNothingLeft(_FAR.BAD4)

    def test_a_call_under_way_is_answered_by_the_successor(self):
        """A connect that the guard has begun, to an address that nobody has."""
        log, nobody = self.path("log"), "10.77.0.99"
        process = self.start(
            ("--mode", "enforce", "--allow", nobody), "sh", "-c",
            f"{self.probe} 'socket 0 inet stream' 'timeout 0 snd 1500' 'connect 0 {nobody} 80'")
        syn_sent = re.compile(r"^ *\d+: \S+ 63004D0A:0050 02 ", re.MULTILINE)
        wait_until(lambda: syn_sent.search(
            self.far.exec_inner(env.tool("cat"), "/proc/net/tcp").stdout), 30, "it connects")
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
            os.kill(int(children.read()), signal.SIGKILL)
        process.wait(20)
        steps = [step for step in self.probe_lines(log) if step["op"] == "connect"]
        self.assertEqual(len(steps), 1)
        self.assertFailed(steps[0], "EINPROGRESS")

    def test_guards_take_short_turns(self):
        """So that a call does not wait for the turn of whoever is busy; the program's stay."""
        process = self.start(_ENFORCE, "sh", "-c", "echo started $$ .; exec sleep 50")
        for again in range(2):
            process.wait_for(lambda: "started" in process.output(), 10, "the program runs")
            program = int(re.search(r"started (\d+) ", process.output()).group(1))
            guard, = (pid for pid in self.children(process) if pid != program)
            wait_until(lambda: set(time_slices(guard)) == {100_000}, 10, "short turns of all its threads")
            self.assertEqual(time_slices(program), time_slices(process.pid))
            if not again:
                os.kill(guard, signal.SIGKILL)
                process.wait_for(lambda: "another one goes on" in process.output(), 10, "the next")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 128 + signal.SIGTERM)

    def traced(self, calls, program):
        """What strace(1) tells of these system calls of a python program and its guard."""
        trace = self.path("trace")
        done = self.plain(env.tool("strace"), "-f", "--seccomp-bpf", "-o", trace, "-e", f"trace={calls}",
                          self.oakum, "run", *_ENFORCE, "--allow", "127.0.0.0/8",
                          "/usr/bin/python3", "-c", program)
        self.assertEqual(done.returncode, 0, done)
        with open(trace, encoding="utf-8", errors="replace") as text:
            return text.read().splitlines()

    def test_what_its_filter_refuses_is_not_asked_for(self):
        """Nobody can bind a socket to an interface under it, so that loopback stays loopback."""
        lines = self.traced("connect,getsockopt", _CONNECTS + "connects(50)\n")
        self.assertGreaterEqual(sum(" connect(" in line for line in lines), 50)
        self.assertLess(sum("SO_BINDTOIFINDEX" in line for line in lines), 10)

    def test_callers_are_woken_where_they_do_not_wait_for_each_other(self):
        """One on the processor of the thread that answers it; several that work between their calls
        are not gathered there."""
        lines = self.traced("ioctl", _CONNECTS + "connects(50)\n")
        if any("0x21, 0x4, " in line and "EINVAL" in line for line in lines):
            self.skipTest("the kernel has no SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6)")
        self.assertEqual(flags_set(lines), [1])
        lines = self.traced("ioctl", _CONNECTS + "import threading, time\n"
                            "def work():\n"
                            "    for _ in range(300): connects(1), time.sleep(0.001)\n"
                            "threads = [threading.Thread(target=work) for _ in range(3)]\n"
                            "for thread in threads: thread.start()\n"
                            "for thread in threads: thread.join()\n"
                            "time.sleep(0.01)\n"
                            "connects(2)\n")
        flags = flags_set(lines)
        self.assertEqual(flags, [1, 0] * (len(flags) // 2) + [1])
        self.assertIn(0, flags)

    def test_without_both_nothing_is_open(self):
        (bad, good), _ = self.killed(_ENFORCE, ["keeper", "guard"])
        self.assertFailed(bad, "ENOSYS")
        self.assertFailed(good, "ENOSYS")
        self.assertNothingLeft(_FAR.BAD4)

    @staticmethod
    def probe_lines(path):
        with open(path, encoding="utf-8") as text:
            return [json.loads(line) for line in text if line.startswith("{")]


class RunAsRoot(Run, case.Case):
    pass


class RunAsOrdinaryUser(Run, case.Case):
    PREFIX = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")

    def test_where_only_ancestors_may_look_the_keeper_guards(self):
        """This kernel may have no Yama: what stands there says so."""
        self.PREFIX = (env.tool("unshare"), "-m", "--propagation", "private", "sh", "-c",
                       "mount -t tmpfs none /proc/sys/kernel && mkdir /proc/sys/kernel/yama && "
                       'echo 1 > /proc/sys/kernel/yama/ptrace_scope && exec "$@"', "sh",
                       *type(self).PREFIX)
        (bad, good), process = self.killed(_ENFORCE, ["guard"], end="exec sleep 50")
        self.assertFailed(bad, "EACCES")
        self.assertWorked(good)
        program, = self.children(process)
        self.assertNotIn("oakum", os.readlink(f"/proc/{program}/exe"))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 128 + signal.SIGTERM)

    def test_the_guard_is_out_of_reach(self):
        """The program has its guard's user, but can neither read its memory nor take its
        descriptors."""
        done = self.run_guarded(
            _ENFORCE, "sh", "-c",
            "keeper=$(sed -n 's/^PPid:.//p' /proc/$PPID/status); "
            "for p in $PPID $keeper; do ls /proc/$p/fd; cat /proc/$p/environ; done")
        self.assertEqual(done.stdout, "", done)
        self.assertEqual(done.stderr.count("Permission denied"), 4, done)


if __name__ == "__main__":
    case.main()
