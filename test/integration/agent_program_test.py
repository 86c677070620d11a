"""oakum-agent and oakum as an operator meets them: options, signals, events file, control socket,
metrics, sd_notify, and the reports of a real container."""
import json
import os
import re
import signal
import socket
import stat
import urllib.error
import urllib.request

from lib import bundle, case, env, network, rootfs, runtime
from lib.agent import Agent, single_policy
from lib.proc import Process, run, wait_until

_GOOD4 = network.FarSide.GOOD4
_POLICY = single_policy({"mode": "enforce", "outgoing": {"default": "deny", "allow": [_GOOD4]}})
_BAD_POLICY = '{\n "version": 1,\n "polices": {}\n}\n'


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read(path):
    with open(path, encoding="utf-8") as text:
        return text.read()


def stands_for(event):
    """How many events a line is, as docs/events.md has it."""
    return event["oakum"].get("count", 1) + event["oakum"].get("suppressed", 0)


def unit_capabilities():
    """What the packaged unit leaves, as the kernel writes it: a bit for each number."""
    numbers = {}
    with open("/usr/include/linux/capability.h", encoding="utf-8") as header:
        for name, number in re.findall(r"^#define (CAP_[A-Z_]+)\s+(\d+)$", header.read(), re.MULTILINE):
            numbers[name] = int(number)
    unit = read(os.path.join(env.SOURCE_DIR, "packaging/oakum-agent.service.in"))
    names = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)[1].split()
    return names, sum(1 << numbers[name] for name in names)


class Program(case.Case):
    """Without any container."""

    def status(self):
        """proc_pid_status(5) of the agent."""
        return dict(line.split(":\t", 1)
                    for line in read(f"/proc/{self.agent.process.pid}/status").splitlines())

    def test_it_keeps_the_capabilities_that_it_needs_and_no_more(self):
        self.agent.start()
        names, wanted = unit_capabilities()
        status = self.status()
        for which in ("CapPrm", "CapEff", "CapBnd"):
            self.assertEqual(int(status[which], 16), wanted, which)
        for which in ("CapInh", "CapAmb"):
            self.assertEqual(int(status[which], 16), 0, which)
        # And the manual says why of each.
        manual = read(os.path.join(env.SOURCE_DIR, "docs/operations.md"))
        self.assertEqual(sorted(re.findall(r"^\| `(CAP_[A-Z_]+)` \|", manual, re.MULTILINE)), sorted(names))

    def keepers(self):
        """The process ids of the agent's keeper and of what starts it: whoever has its socket among
        the arguments, by their names."""
        found = {}
        wanted = f"--keeper={self.agent.socket}"
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if wanted in read(f"/proc/{pid}/cmdline").split("\0"):
                    found[read(f"/proc/{pid}/comm").strip()] = pid
            except OSError:
                pass
        return found

    def test_its_keeper_keeps_nothing(self):
        self.agent.start()
        keepers = self.keepers()
        self.assertEqual(sorted(keepers), ["oakum-keeper", "oakum-spawner"])
        for pid in keepers.values():
            status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines())
            for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(int(status[which], 16), 0, which)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))

    def test_it_confines_itself(self):
        self.agent.start()
        status = self.status()
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")
        core = [line.split() for line in read(f"/proc/{self.agent.process.pid}/limits").splitlines()
                if line.startswith("Max core file size")]
        self.assertEqual(core[0][4:6], ["0", "0"])

    def setUp(self):
        self.agent = Agent(self.directory, _POLICY)
        self.addCleanup(self.agent.stop)

    def refused(self, *arguments, status=1):
        result = run([env.program("oakum-agent"), "--config", self.agent.config, "--events",
                      self.agent.events_path, *arguments], check=False)
        self.assertEqual(result.returncode, status, result)
        self.assertFalse(os.path.exists(self.agent.socket), result)
        self.assertEqual(result.stderr.count("\n"), 1, result)
        return result.stderr

    def test_check_reads_configuration_and_policy_and_leaves_nothing(self):
        program = [env.program("oakum-agent"), "--config", self.agent.config, "--check"]
        self.assertIn("1 polic", run(program).stdout)
        self.agent.set_policy(_BAD_POLICY)
        result = run(program, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("policy.json:3:", result.stderr)
        self.assertEqual(sorted(os.listdir(self.agent.directory)), ["config.json", "policy.json"])

    def test_what_cannot_be_used_is_one_line(self):
        for arguments, message, status in (
                (["--events", "/nonexistent/x"], "/nonexistent/x: No such file", 1),
                (["--policy", "/nonexistent"], "/nonexistent", 1),
                (["--metrics", "localhost:1"], "neither an IPv4 address", 1),
                (["--config", "/nonexistent"], "/nonexistent", 1),
                (["--control", self.agent.policy_path], "something else has that name", 1),
                (["--no-such-option"], "--no-such-option", 2),
                (["--log-level", "loud"], "loud", 2)):
            with self.subTest(arguments=arguments):
                self.assertIn(message, self.refused(*arguments, status=status))

    def test_sigterm_ends_it_and_takes_the_sockets_with_it(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.agent.start()
            self.assertEqual(stat.S_IMODE(os.stat(self.agent.socket).st_mode), 0o600)
            self.assertEqual(self.agent.stop(number), 0)
            self.assertFalse(os.path.exists(self.agent.socket))
            self.assertFalse(os.path.exists(self.agent.directory + "/control.sock"))

    def test_a_second_agent_is_refused_and_a_dead_ones_socket_replaced(self):
        self.agent.start()
        second = run([env.program("oakum-agent"), "--config", self.agent.config, "--events", "-"],
                     check=False)
        self.assertEqual(second.returncode, 1)
        self.assertIn("another agent listens there", second.stderr)
        self.agent.kill()
        self.assertTrue(os.path.exists(self.agent.socket))
        self.agent.start()
        self.agent.process.wait_for(lambda: self.ps() == [], 30, "the new agent answers")

    def ps(self):
        result = run([env.program("oakum"), "ps", "--config", self.agent.config, "--format",
                      "json"], check=False)
        return json.loads(result.stdout) if result.returncode == 0 else None

    def test_sighup_keeps_the_old_policy_when_the_new_one_is_bad(self):
        self.agent.start()
        self.agent.set_policy(_BAD_POLICY)
        self.agent.reload()
        self.agent.process.wait_for(lambda: "stays in force" in self.agent.log(), 30, "the word")
        self.assertIn("policy.json:3:", self.agent.log())
        self.agent.set_policy(_POLICY)
        self.agent.reload()
        self.agent.process.wait_for(lambda: "is read again" in self.agent.log(), 30, "the word")

    def test_metrics_are_served(self):
        port = free_port()
        agent = Agent(self.directory, _POLICY, arguments=["--metrics", f"127.0.0.1:{port}"])
        self.addCleanup(agent.stop)
        agent.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            self.assertEqual(answer.headers["Content-Type"],
                             "text/plain; version=0.0.4; charset=utf-8")
            page = answer.read().decode()
        self.assertIn("oakum_sessions 0\n", page)
        with self.assertRaises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        self.assertEqual(error.exception.code, 404)
        error.exception.close()

    def test_systemd_hears_of_readiness_reloads_and_the_end(self):
        path = os.path.join(self.agent.directory, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(10)
            process = Process(
                [env.program("oakum-agent"), "--config", self.agent.config],
                self.agent.log_path, environment=env.clean_environment(
                    NOTIFY_SOCKET=path, WATCHDOG_USEC="200000"))
            self.addCleanup(process.stop)

            def hear(*wanted):
                """Everything up to the last of these, which come in this order."""
                heard = []
                for want in wanted:
                    while not heard or not heard[-1].startswith(want):
                        heard.append(notify.recv(4096).decode())
                return heard

            hear("READY=1", "WATCHDOG=1", "WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            heard = hear("RELOADING=1", "READY=1")
            self.assertTrue(any("MONOTONIC_USEC=" in message for message in heard))
            process.send_signal(signal.SIGTERM)
            hear("STOPPING=1")
            self.assertEqual(process.wait(), 0)


class Reports(case.Case):
    """With a container of runc."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))
        cls.port = free_port()
        cls.agent = Agent(cls.directory, _POLICY,
                          arguments=["--metrics", f"127.0.0.1:{cls.port}"]).start()
        cls.addClassCleanup(cls.agent.stop)
        cls.runc = runtime.Runtime("runc", cls.directory, config=cls.agent.config)
        cls.addClassCleanup(cls.runc.close)

    def bundle(self, *args):
        return bundle.make_bundle(
            os.path.join(self.directory, runtime.Runtime.new_id()),
            bundle.make_config(self.rootfs, args, netns=self.far.netns))

    def oakum(self, *arguments, check=True):
        return run([env.program("oakum"), *arguments, "--config", self.agent.config], check=check)

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def test_ps_events_and_report_show_a_leaking_container(self):
        container, process = self.runc.start(self.bundle(
            "/bin/sh", "-c", f"/bin/probe 'tcp {self.far.BAD4} 80 hello'; exec sleep 300"),
            os.path.join(self.directory, "leak.log"))
        self.addCleanup(process.stop)
        self.addCleanup(self.runc.delete, container)
        self.agent.wait_events(1, container__id=container)
        sessions = json.loads(self.oakum("ps", "--format", "json").stdout)
        session = next(s for s in sessions if s["container_id"] == container)
        self.assertEqual((session["policy"], session["mode"], session["leaks"]),
                         ("test", "enforce", 1))
        self.assertIn(container[:12], self.oakum("ps").stdout)
        shown = self.oakum("events", "--container", container).stdout
        self.assertIn(f" deny LEAK {container} ", shown)
        report = json.loads(self.oakum("report", "--container", container, "--format", "json",
                                       check=False).stdout)
        self.assertEqual(report["summary"]["leaks"], 1)
        self.assertEqual(report["containers"][0]["rows"][0]["destination"],
                         f"{self.far.BAD4}:80/tcp")
        self.assertEqual(self.oakum("report", "--fail-on-leak", check=False).returncode, 1)
        self.assertGreaterEqual(self.metric("oakum_sessions"), 1)
        self.runc.delete(container)
        wait_until(lambda: not any(s["container_id"] == container for s in json.loads(
            self.oakum("ps", "--format", "json").stdout)), 30, "the session has ended")
        self.assertGreaterEqual(self.metric("oakum_leaks_total"), 1)

    def test_a_flood_is_folded_and_the_sum_is_exact(self):
        script = (f"i=0; while [ $i -lt 40 ]; do /bin/probe 'socket 0 inet stream'"
                  f"{f' {chr(39)}connect 0 {self.far.BAD4} 81{chr(39)}' * 10} >/dev/null; "
                  "i=$((i+1)); done")
        before = self.metric("oakum_leaks_total")
        container = runtime.Runtime.new_id()
        self.runc.run(self.bundle("/bin/sh", "-c", script), container)
        self.assertEqual(self.metric("oakum_leaks_total") - before, 400)
        wait_until(lambda: sum(map(stands_for, self.agent.events(container__id=container))) == 400,
                   30, "all 400 are accounted for")
        self.assertLess(len(self.agent.events(container__id=container)), 200)

    def test_a_rotated_file_is_left_at_sighup_and_followed_by_the_reader(self):
        log = os.path.join(self.directory, "follow.out")
        follower = Process([env.program("oakum"), "events", "--follow", "--format", "json",
                            "--config", self.agent.config], log)
        self.addCleanup(follower.stop)
        leak = self.bundle("/bin/probe", "socket 0 inet stream", f"connect 0 {self.far.BAD4} 82")

        def leak_once():
            container = runtime.Runtime.new_id()
            self.runc.run(leak, container)
            return container

        # The first ones until the follower has found the end of the file.
        wait_until(lambda: leak_once() and follower.output(), 20, "the follower sees an event")
        rotated = self.agent.events_path + ".1"
        os.rename(self.agent.events_path, rotated)
        into_old = leak_once()
        wait_until(lambda: into_old in read(rotated), 30, "the old file")
        self.agent.reload()
        wait_until(lambda: os.path.exists(self.agent.events_path), 30, "the new file")
        into_new = leak_once()
        self.agent.wait_events(1, container__id=into_new)
        follower.wait_for(lambda: into_old in follower.output() and into_new in follower.output(),
                          30, "the follower sees both")
        self.assertNotIn(into_new, read(rotated))

    def test_a_fifo_without_a_reader_holds_no_container_up(self):
        fifo = os.path.join(self.directory, "events.fifo")
        os.mkfifo(fifo)
        agent = Agent(self.directory, _POLICY)
        agent.events_path = fifo
        self.addCleanup(agent.stop)
        agent.start()
        runc = runtime.Runtime("runc", self.directory, config=agent.config)
        self.addCleanup(runc.close)
        steps = runc.run_probe(self.bundle(
            "/bin/probe", "socket 0 inet stream", *[f"connect 0 {self.far.BAD4} 83"] * 50))
        self.assertEqual([s["errno"] for s in steps[1:]], ["EACCES"] * 50)
        with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
            text = bytearray()

            def complete():
                text.extend(reader.read() or b"")
                return text.endswith(b"\n") and sum(
                    stands_for(json.loads(line)) for line in text.splitlines()) == 50

            wait_until(complete, 30, "the reader gets all of them")


if __name__ == "__main__":
    case.main()
