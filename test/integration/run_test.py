"""`oakum run`: one ordinary program under a guard of its own, as root and as an ordinary user."""
import json
import os
import shutil
import signal

from lib import case, env, network
from lib.agent import single_policy, write_json
from lib.proc import Process, run, wait_until
from lib.runtime import parse_probe

_FAR = network.FarSide
_BAD = f"tcp {_FAR.BAD4} 80 hello"
_GOOD = f"tcp {_FAR.GOOD4} 80 hello"
_ENFORCE = ("--mode", "enforce", "--allow", _FAR.GOOD4, "--allow", f"[{_FAR.GOOD6}]")


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
        process.wait_for(lambda: os.path.exists(ready), 10, "the program runs")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 9)

    def test_signals_reach_what_is_left_behind(self):
        process = self.start(_ENFORCE, "sh", "-c", "sleep 50 & exit 5")
        process.wait_for(lambda: "left behind" in process.output(), 10, "oakum waits")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 5)

    def test_a_killed_guard_leaves_nothing_open(self):
        go, log = self.path("go"), self.path("log")
        process = self.start(_ENFORCE, "sh", "-c",
                             f"echo started; exec {self.probe} 'wait {go}' '{_BAD}' '{_GOOD}'")
        process.wait_for(lambda: "started" in process.output(), 10, "the program runs")
        process.stop(signal.SIGKILL)
        with open(go, "w", encoding="ascii"):
            pass
        steps = wait_until(lambda: [s for s in self.probe_lines(log) if s["op"] == "tcp"][1:], 10,
                           "the program has tried")
        self.assertFailed(steps[0], "ENOSYS")
        self.assertNothingLeft(_FAR.BAD4)

    @staticmethod
    def probe_lines(path):
        with open(path, encoding="utf-8") as text:
            return [json.loads(line) for line in text if line.startswith("{")]


class RunAsRoot(Run, case.Case):
    pass


class RunAsOrdinaryUser(Run, case.Case):
    PREFIX = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")

    def test_the_guard_is_out_of_reach(self):
        """The program has its guard's user, but can neither read its memory nor take its
        descriptors."""
        done = self.run_guarded(_ENFORCE, "sh", "-c", "ls /proc/$PPID/fd; cat /proc/$PPID/environ")
        self.assertEqual(done.stdout, "", done)
        self.assertEqual(done.stderr.count("Permission denied"), 2, done)


if __name__ == "__main__":
    case.main()
