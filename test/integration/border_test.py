"""The agent's sockets as a border: who may come, how much of what they send is taken, and what stays
behind."""
import array
import contextlib
import json
import os
import resource
import shutil
import socket
import stat
import struct
import tempfile
import time

from lib import bundle, case, env, network, rootfs, runtime
from lib.agent import Agent, single_policy
from lib.proc import Process, run, wait_until

_POLICY = single_policy({"mode": "enforce", "outgoing": {
    "default": "deny", "allow": ["127.0.0.0/8"]}})
_STRANGER = 4711
_STATE = {"ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": 1, "state": {
    "ociVersion": "1.0.2", "id": "border", "status": "running", "pid": 1, "bundle": "/b"}}
# How many containers' sessions are opened and closed; 100,000 take minutes.
_SESSIONS = int(os.environ.get("OAKUM_SESSIONS", "3000"))


def connect(path, kind=socket.SOCK_STREAM):
    link = socket.socket(socket.AF_UNIX, kind)
    try:
        link.connect(path)  # waits for its turn
    except OSError:
        link.close()
        raise
    link.settimeout(60)
    return link


def ask(path, **request):
    """What the control socket answers; None: it has closed the connection."""
    with connect(path) as link, link.makefile("rb") as answers:
        try:
            link.sendall(json.dumps(request).encode() + b"\n")
            answer = answers.readline()
        except (BrokenPipeError, ConnectionResetError):
            return None
    return json.loads(answer) if answer else None


def as_user(uid, action, groups=()):
    """What action() returns (JSON) in a process of that user; its exception's errno, if it has one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            try:
                result = action()
            except OSError as error:
                result = f"errno {error.errno}"
            os.write(writing, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def closed(link):
    """Whether the other end closes the connection."""
    with link:
        try:
            return link.recv(1) == b""
        except ConnectionResetError:
            return True


def process_of(pid):
    """Descriptors, threads and resident kilobytes."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        status = dict(line.split(":", 1) for line in lines)
    return {"descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": int(status["Threads"]),
            "kilobytes": int(status["VmRSS"].split()[0])}


@contextlib.contextmanager
def half_open(path, count, text=b"", kind=socket.SOCK_STREAM):
    """Connections of a process of its own that say `text` and no more; how many it got."""
    told, tell = os.pipe()
    wait, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        links = []
        try:
            os.close(let_go)
            resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100,
                                                        max(count + 100, resource.getrlimit(
                                                            resource.RLIMIT_NOFILE)[1])))
            for _ in range(count):
                link = connect(path, kind)
                with contextlib.suppress(OSError):
                    if text:
                        link.sendall(text)
                links.append(link)
        finally:
            os.write(tell, str(len(links)).encode())
            os.close(tell)
            os.read(wait, 1)
            os._exit(0)
    os.close(tell)
    os.close(wait)
    try:
        with open(told, "rb") as answer:
            yield int(answer.read())
    finally:
        os.close(let_go)
        os.waitpid(child, 0)


class Border(case.Case):

    def setUp(self):
        self.agent = Agent(self.directory, _POLICY)
        self.addCleanup(self.agent.stop)
        os.chmod(self.agent.directory, 0o755)
        self.control = os.path.join(self.agent.directory, "control.sock")

    def refused(self, *arguments):
        """The one line with which oakum-agent does not start."""
        result = run([env.program("oakum-agent"), "--config", self.agent.config, "--events",
                      self.agent.events_path, *arguments], check=False)
        self.assertEqual(result.returncode, 1, result)
        self.assertEqual(result.stderr.count("\n"), 1, result)
        return result.stderr

    def hook(self):
        """oakum-hook's exit status and what it says."""
        result = run([env.program("oakum-hook"), "--config", self.agent.config], check=False,
                     stdin=json.dumps(bundle.make_config("/", ["/bin/true"])))
        return result.returncode, result.stderr

    def test_a_place_where_others_could_put_another_socket_is_refused(self):
        other = os.path.join(self.agent.directory, "elsewhere")
        os.mkdir(other)
        for mode in (0o777, 0o775, 0o1777):
            os.chmod(self.agent.directory, mode)
            self.assertIn(f"is writable for others (mode {mode:04o})", self.refused())
            self.assertEqual(sorted(os.listdir(self.agent.directory)),
                             ["config.json", "elsewhere", "policy.json"])
        os.chmod(self.agent.directory, 0o755)
        os.chown(self.agent.directory, _STRANGER, _STRANGER)
        self.assertIn(f"belongs to user {_STRANGER}", self.refused())
        os.chown(self.agent.directory, 0, 0)
        os.chmod(other, 0o777)
        self.assertIn("elsewhere is writable for others", self.refused("--control", other + "/c"))
        keeper = run([env.program("oakum-agent"), "--keeper", other + "/s"], check=False)
        self.assertEqual((keeper.returncode, "elsewhere is writable" in keeper.stderr), (1, True))
        self.agent.start()
        # Who is asked for a container's sake looks again.
        self.assertEqual(self.hook(), (0, ""))
        os.chmod(self.agent.directory, 0o777)
        status, message = self.hook()
        self.assertEqual((status, "is writable for others" in message), (1, True), message)

    def test_a_stranger_who_listens_is_no_agent(self):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(self.agent.socket)
            os.chmod(self.agent.socket, 0o666)
            child = os.fork()
            if child == 0:
                os.setuid(_STRANGER)
                server.listen(5)  # whose credentials count (unix(7))
                os._exit(0)
            os.waitpid(child, 0)
            status, message = self.hook()
        self.assertEqual((status, f"user {_STRANGER}" in message), (1, True), message)

    def test_what_everybody_can_change_says_nothing(self):
        self.agent.start()
        for path in (self.agent.policy_path, self.agent.config):
            os.chmod(path, 0o666)
            status, message = self.hook()
            self.assertEqual((status, "is writable for others" in message), (1, True), message)
            self.assertIn("is writable for others", self.refused("--check"))
            os.chmod(path, 0o644)
        os.chmod(self.agent.policy_path, 0o666)
        self.agent.reload()
        self.agent.process.wait_for(lambda: "stays in force" in self.agent.log(), 30, "the word")
        os.chmod(self.agent.policy_path, 0o664)  # a group of operators is theirs to know
        self.assertEqual(self.hook(), (0, ""))

    def test_other_users_reach_no_socket(self):
        self.agent.start()
        sockets = ((self.agent.socket, socket.SOCK_STREAM), (self.control, socket.SOCK_STREAM),
                   (self.agent.socket + ".keeper", socket.SOCK_SEQPACKET))
        for uid in (_STRANGER, 65534):
            for path, kind in sockets:
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
                self.assertEqual(as_user(uid, lambda: closed(connect(path, kind))), "errno 13")
                os.chmod(path, 0o666)  # by mistake
                try:
                    self.assertIs(as_user(uid, lambda: closed(connect(path, kind))), True, path)
                finally:
                    os.chmod(path, 0o600)
            self.assertIn(f"user {uid} is neither root", self.agent.log())
        self.assertTrue(ask(self.control, op="ps")["ok"])

    def test_an_ordinary_users_agent_is_that_users_and_roots(self):
        user = ["setpriv", f"--reuid={_STRANGER}", f"--regid={_STRANGER}", "--clear-groups"]
        place = tempfile.mkdtemp(prefix="oakum-it-")
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        os.chmod(place, 0o755)
        os.chown(place, _STRANGER, _STRANGER)
        # Where the user is root of a user namespace, the machine's root is nobody.
        for prefix, roots in ((user, False), ([*user, "unshare", "--user", "--map-root-user"], True)):
            agent = Agent(place, _POLICY, prefix=prefix)
            self.addCleanup(agent.stop)
            for path in (agent.directory, agent.config, agent.policy_path):
                os.chown(path, _STRANGER, _STRANGER)
            os.chmod(agent.directory, 0o755)
            agent.start()
            os.chmod(agent.socket, 0o666)
            control = os.path.join(agent.directory, "control.sock")
            os.chmod(control, 0o666)
            self.assertTrue(as_user(_STRANGER, lambda: ask(control, op="reload"))["ok"])
            self.assertIsNone(as_user(65534, lambda: ask(control, op="ps")))
            self.assertIs(as_user(65534, lambda: closed(connect(agent.socket))), True)
            if roots:
                self.assertIsNone(ask(control, op="ps"))
                self.assertTrue(closed(connect(agent.socket)))
            else:
                self.assertTrue(ask(control, op="reload")["ok"])
            agent.stop()

    def test_a_group_may_read_and_change_nothing(self):
        self.agent = Agent(self.directory, _POLICY, arguments=["--control-group", str(_STRANGER)])
        self.addCleanup(self.agent.stop)
        self.agent.start()
        control = os.path.join(self.agent.directory, "control.sock")
        mode = os.stat(control)
        self.assertEqual((stat.S_IMODE(mode.st_mode), mode.st_gid), (0o660, _STRANGER))
        self.assertEqual(os.stat(self.agent.socket).st_gid, 0)

        def member(**request):
            return as_user(65534, lambda: ask(control, **request), groups=[_STRANGER])

        self.assertEqual(member(op="ps"), {"ok": True, "sessions": []})
        self.assertTrue(member(op="status")["ok"])
        for op in ("reload", "reopen"):
            self.assertIn("for root", member(op=op)["error"])
        self.assertEqual(ask(control, op="status")["policy"]["generation"], 1)
        self.assertEqual(as_user(65534, lambda: ask(control, op="ps")), "errno 13")
        os.chmod(control, 0o666)
        self.assertIsNone(as_user(65534, lambda: ask(control, op="ps")))

    def test_a_reload_says_why_it_is_refused(self):
        self.agent.start()
        command = [env.program("oakum"), "policy", "reload", "--config", self.agent.config]
        self.assertIn("1 policy is in force", run(command).stdout)
        self.agent.set_policy('{\n "version": 1,\n "polices": {}\n}\n')
        result = run(command, check=False)
        self.assertEqual(result.returncode, 1, result)
        self.assertIn("policy.json:3:", result.stderr)
        self.assertEqual(ask(self.control, op="status")["policy"]["generation"], 2)
        os.rename(self.agent.events_path, self.agent.events_path + ".1")
        self.assertTrue(ask(self.control, op="reopen")["ok"])
        wait_until(lambda: os.path.exists(self.agent.events_path), 30, "the file is made again")
        self.agent.stop()
        self.assertEqual(run(command, check=False).returncode, 2)

    def test_a_state_of_100_mib_is_refused_early(self):
        self.agent.start()
        before = process_of(self.agent.process.pid)
        piece = b'{"a":"' + b"x" * (1 << 20)
        sent = 0
        with connect(self.agent.socket) as link:
            try:
                while sent < 100 << 20:
                    sent += link.send(piece if sent == 0 else piece[6:])
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.assertLess(sent, 4 << 20)
        wait_until(lambda: "longer than" in self.agent.log(), 30, "the word")
        after = process_of(self.agent.process.pid)
        if not env.SANITIZED:
            self.assertLess(after["kilobytes"] - before["kilobytes"], 8 << 10)
        self.assertEqual(self.agent.log().count("longer than"), 1)
        self.assertLess(len(self.agent.log()), 2000)

    def test_wrong_and_too_many_descriptors_are_refused_and_closed(self):
        self.agent.start()
        before = process_of(self.agent.process.pid)["descriptors"]
        reading, writing = os.pipe()
        files = [os.open("/etc/passwd", os.O_RDONLY), reading, os.pidfd_open(os.getpid()),
                 os.open("/dev/null", os.O_RDWR), os.memfd_create("x")]
        self.addCleanup(lambda: [os.close(fd) for fd in [*files, writing]])
        state = json.dumps(_STATE).encode()

        def send(fds):
            link = connect(self.agent.socket)
            link.sendmsg([state], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            return link

        for fd in files:
            count = self.agent.log().count("not a seccomp listener")
            with send([fd]):
                self.agent.process.wait_for(
                    lambda: self.agent.log().count("not a seccomp listener") > count, 30, "the word")
        for fds, message in ((files, "5 descriptors received, 1 named"),
                             ([files[0]] * 253, "descriptors were cut off")):
            self.assertTrue(closed(send(fds)))
            self.assertIn(message, self.agent.log())
        self.assertEqual(ask(self.control, op="ps")["sessions"], [])
        wait_until(lambda: process_of(self.agent.process.pid)["descriptors"] <= before, 30,
                   "none is kept")

    def test_sessions_leave_nothing_behind(self):
        self.agent.start()
        keeper = self.agent.keeper_pid()
        program = env.test_program("sessions")

        def sessions(count):
            began = time.monotonic()
            self.assertEqual(run([program, self.agent.socket, count, 4], timeout=3600).stdout,
                             f"{count} ok\n")
            wait_until(lambda: ask(self.control, op="status")["sessions"] == 0, 30, "all have ended")
            return time.monotonic() - began

        def measure():
            return {name: process_of(pid)
                    for name, pid in (("agent", self.agent.process.pid), ("keeper", keeper))}

        sessions(1000)
        # The keeper lets go a moment later.
        wait_until(lambda: process_of(keeper)["descriptors"] < 16, 30, "nothing is kept")
        first = measure()
        took = sessions(_SESSIONS)
        wait_until(lambda: all(
            measure()[who][what] <= first[who][what]
            for who in first for what in ("descriptors", "threads")), 60,
            f"descriptors and threads are as before: {first}, now {measure()}")
        last = measure()
        print(f"{_SESSIONS} sessions in {took:.1f} s: {first} then {last}", flush=True)
        self.assertEqual(ask(self.control, op="status")["counters"]["sessions"], _SESSIONS + 1000)
        if not env.SANITIZED:
            for who in first:
                self.assertLess(last[who]["kilobytes"], first[who]["kilobytes"] + 16384, who)


class Keeper(case.Case):
    """The keeper's protocol, spoken by hand."""

    HELLO, KEEP, READY = 1, 2, 5

    @staticmethod
    def message(word, name=b""):
        return struct.pack("II64s", 1, word, name)

    def test_what_has_ended_is_not_kept_though_no_agent_says_so(self):
        path = os.path.join(self.directory, "agent.sock")
        keeper = Process([env.program("oakum-agent"), "--keeper", path],
                         os.path.join(self.directory, "keeper.log"))
        self.addCleanup(keeper.stop)
        keeper.wait_for(lambda: os.path.exists(path + ".keeper"), 30, "it listens")
        with connect(path + ".keeper", socket.SOCK_SEQPACKET) as link:
            link.send(self.message(self.HELLO))
            self.assertEqual(struct.unpack("II64s", link.recv(72))[1], self.READY)
            before = process_of(keeper.pid)["descriptors"]
            reading, writing = os.pipe()
            for number in range(100):
                link.sendmsg([self.message(self.KEEP, b"session-%d" % number)],
                             [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                               array.array("i", [reading, reading]))])
            os.close(reading)
            wait_until(lambda: process_of(keeper.pid)["descriptors"] == before + 200, 30, "all are kept")
            os.close(writing)
            wait_until(lambda: process_of(keeper.pid)["descriptors"] == before, 30, "none is kept")

    def test_without_a_descriptor_it_rests(self):
        """Connections that it has no descriptor for stay where they are."""
        path = os.path.join(self.directory, "poor.sock")
        keeper = Process([env.program("oakum-agent"), "--keeper", path],
                         os.path.join(self.directory, "poor.log"))
        self.addCleanup(keeper.stop)
        keeper.wait_for(lambda: os.path.exists(path + ".keeper"), 30, "it listens")
        few = process_of(keeper.pid)["descriptors"] + 2
        _, hard = resource.prlimit(keeper.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(keeper.pid, resource.RLIMIT_NOFILE, (few, hard))

        def ticks():
            with open(f"/proc/{keeper.pid}/stat", encoding="utf-8") as line:
                fields = line.read().rsplit(") ", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        links = [connect(path + ".keeper", socket.SOCK_SEQPACKET) for _ in range(few + 10)]
        wait_until(lambda: process_of(keeper.pid)["descriptors"] >= few, 30, "it has no more")
        before = ticks()
        time.sleep(2)
        used = (ticks() - before) / os.sysconf("SC_CLK_TCK")
        self.assertLess(used, 0.2, "seconds of a processor in two")
        for link in links:
            link.close()
        with connect(path + ".keeper", socket.SOCK_SEQPACKET) as link:
            link.send(self.message(self.HELLO))
            self.assertEqual(struct.unpack("II64s", link.recv(72))[1], self.READY)


class HalfOpen(case.Case):
    """Connections by the thousand that say nothing, and containers that start all the same."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), programs=("probe",))

    def starts(self, kind, agent):
        """A container starts and is guarded."""
        real = runtime.Runtime(kind, self.directory, config=agent.config)
        self.addCleanup(real.close)
        steps = real.run_probe(bundle.make_bundle(
            os.path.join(self.directory, runtime.Runtime.new_id()),
            bundle.make_config(self.rootfs, ["/bin/probe", f"tcp {self.far.BAD4} 80 x"],
                               netns=self.far.netns)))
        self.assertEqual([s["errno"] for s in steps if s["ret"] < 0], ["EACCES"], steps)

    def test_thousands_of_silent_connections_keep_nobody_out(self):
        # A quarter of 8000 descriptors: 2000 connections.
        agent = Agent(self.directory, _POLICY, prefix=["prlimit", "--nofile=8000:8000"]).start()
        self.addCleanup(agent.stop)
        control = os.path.join(agent.directory, "control.sock")
        with half_open(agent.socket, 1500) as silent, \
                half_open(agent.socket, 1500, b'{"ociVersion": "1.0", "fds": ["secc') as half, \
                half_open(control, 500), half_open(control, 500, b'{"op":'):
            self.assertEqual((silent, half), (1500, 1500))
            for kind in ("runc", "crun"):
                self.starts(kind, agent)
            status = ask(control, op="status")
            self.assertGreater(status["counters"]["connections_evicted"], 0)
            self.assertEqual(json.loads(run([env.program("oakum"), "ps", "--format", "json", "--config",
                                             agent.config]).stdout), [])
            self.assertLess(process_of(agent.process.pid)["descriptors"], 2200)
            self.assertLess(agent.log().count("\n"), 400)
        self.starts("runc", agent)

    def test_silent_connections_to_the_keeper_hold_no_agent_up(self):
        agent = Agent(self.directory, _POLICY).start()
        self.addCleanup(agent.stop)
        real = runtime.Runtime("runc", self.directory, config=agent.config)
        self.addCleanup(real.close)
        container, process = real.start(bundle.make_bundle(
            os.path.join(self.directory, runtime.Runtime.new_id()),
            bundle.make_config(self.rootfs, ["/bin/sleep", "1000"], netns=self.far.netns)),
            os.path.join(self.directory, "sleep.log"))
        self.addCleanup(process.stop)
        self.addCleanup(real.delete, container)
        keeper = agent.keeper_pid()
        with half_open(agent.socket + ".keeper", 300, kind=socket.SOCK_SEQPACKET) as count:
            self.assertEqual(count, 300)
            agent.kill()
            agent.start()
            self.assertEqual(agent.keeper_pid(), keeper)
            sessions = ask(os.path.join(agent.directory, "control.sock"), op="ps")["sessions"]
            self.assertEqual([s["container_id"] for s in sessions], [container])


if __name__ == "__main__":
    case.main()
