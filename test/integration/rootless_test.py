"""Rootless podman: agent, hook and runtime as an ordinary user, with what XDG says as the only
configuration."""
import itertools
import json
import os
import signal
import socket
import threading
import time

from lib import case, env, rootfs, rootless, runtime, steady, systemd
from lib.agent import field
from lib.proc import Process, wait_until

_IDS = itertools.count()
SOMEWHERE = "192.0.2.5"  # TEST-NET-1: only the proxy "knows" it

RELAYING_PROXY = "127.0.7.10"  # on the machine's loopback: relayed, at a port of its own

NO_HOOKS = ["--hooks-dir", env.SOURCE_DIR + "/test/integration/programs"]  # which has none


class Server:
    """TCP on the machine's loopback, at a port of the kernel's choice: echoes; socks=True: after
    having answered to SOCKS5 as if connected. peers: how many came; asked: for what."""

    def __init__(self, socks=False):
        self._socks = socks
        self.peers, self.asked = 0, []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.peers += 1
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer):
        with peer, peer.makefile("rb") as stream:
            try:
                if self._socks:
                    stream.read(stream.read(2)[1])
                    peer.sendall(b"\x05\x00")
                    request = stream.read(10)
                    self.asked.append((socket.inet_ntoa(request[4:8]),
                                       int.from_bytes(request[8:10], "big")))
                    peer.sendall(b"\x05\x00\x00\x01" + bytes(6))
                while data := stream.read1(4096):
                    peer.sendall(data)
            except OSError:
                pass

    def close(self):
        self._socket.close()


class Rootless:
    """A user with an agent. UNSHARED: it is in podman's user namespace, as docs/engines.md says it
    should be."""

    UNSHARED = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("podman", "runc", "newuidmap", "slirp4netns"):
            env.tool(name)
        tree = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), programs=("probe", "relayed"))
        archive = rootfs.pack_rootfs(tree, os.path.join(cls.directory, "image.tar"))
        cls.good, cls.bad, cls.proxy = Server(), Server(), Server(socks=True)
        for server in (cls.good, cls.bad, cls.proxy):
            cls.addClassCleanup(server.close)
        cls.user = rootless.User(archive)
        cls.addClassCleanup(cls.user.close)
        cls.user.write(".config/oakum/policy.d/test.json", json.dumps({
            "version": 1,
            "proxies": {"proxy": {"url": f"socks5://127.0.0.1:{cls.proxy.port}", "from": "host"},
                        "relaying": {"url": f"socks5://{RELAYING_PROXY}:7010", "from": "host"}},
            "policies": {"relayed": {
                "mode": "enforce", "proxy": "relaying",
                "outgoing": {"default": "deny", "redirect": [steady.RELAYED]}}, "test": {
                "mode": "enforce", "proxy": "proxy",
                "outgoing": {"default": "deny", "redirect": ["192.0.2.0/24"],
                             "allow": [f"127.0.0.1:{cls.good.port}/tcp",
                                       f"10.0.2.2:{cls.good.port}/tcp"]},
                "incoming": {"default": "deny", "allow": ["0.0.0.0:80/tcp"]}}},
            "containers": [{"match": {"name": "relayed-*"}, "policy": "relayed"},
                           {"match": {}, "policy": "test"}]}))
        hook = cls.user.write("hooks.d/oakum.json", json.dumps({
            "version": "1.0.0", "stages": ["precreate"], "when": {"always": True},
            "hook": {"path": env.program("oakum-hook"), "args": ["oakum-hook"]}}))
        cls.user.write(".config/containers/containers.conf.d/oakum.conf",
                       f'[engine]\nhooks_dir = ["{os.path.dirname(hook)}"]\n')
        cls.events_path = cls.user.write("events.jsonl", "")
        cls.start_agent()

    @classmethod
    def start_agent(cls):
        prefix = [env.tool("podman"), "unshare"] if cls.UNSHARED else []
        cls.agent = cls.user.start(*prefix, env.program("oakum-agent"), "--events", cls.events_path,
                                   log=os.path.join(cls.directory, f"agent-{next(_IDS)}.log"))
        cls.socket = f"{cls.user.runtime_dir}/oakum/agent.sock"
        cls.agent.wait_for(lambda: f"listening on {cls.socket}" in cls.agent.output(), 20,
                           "the agent listens where XDG_RUNTIME_DIR says")
        cls.addClassCleanup(cls.stop_agent)

    @classmethod
    def stop_agent(cls):
        """The agent; its keeper ends by itself when no container is left."""
        for pid in cls.user.processes(env.program("oakum-agent")):
            os.kill(pid, signal.SIGTERM)
        cls.agent.wait(30)

    def podman_run(self, *args, options=(), network="none", before=(), check=True):
        return self.user.podman(*before, "run", "--rm", "--network", network, *options,
                                rootless.IMAGE, *args, check=check)

    def probe(self, *steps, **options):
        return runtime.parse_probe(self.podman_run("/bin/probe", *steps, **options).stdout)

    def events(self, **wanted):
        with open(self.events_path, encoding="utf-8") as lines:
            events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if all(
            field(event, key.replace("__", ".")) == value for key, value in wanted.items())]

    def to(self, server):
        return f"tcp 127.0.0.1 {server.port} hello"

    def assertGuarded(self, **options):
        """On the machine's own network: one that is denied, allowed, redirected."""
        name = f"guarded-{self.id().rsplit('.', 1)[-1].replace('_', '-')}"
        bad, asked = self.bad.peers, len(self.proxy.asked)
        denied, allowed, carried = self.probe(
            self.to(self.bad), self.to(self.good), f"tcp {SOMEWHERE} 80 hello", network="host",
            **{**options, "options": ["--name", name, *options.get("options", ())]})
        self.assertFailed(denied, "EACCES")
        self.assertEqual(self.bad.peers, bad)
        self.assertWorked(allowed)
        self.assertEqual(allowed["data"], "hello")
        self.assertWorked(carried)
        self.assertEqual(carried["data"], "hello")
        self.assertEqual(self.proxy.asked[asked:], [(SOMEWHERE, 80)])
        event, = wait_until(
            lambda: self.events(container__name=name, oakum__verdict="deny"), 30, "the event")
        self.assertEqual((event["destination"]["port"], event["oakum"]["leak"]),
                         (self.bad.port, True))

    def test_a_hook_guards(self):
        before = self.bad.peers
        leak, = self.probe(self.to(self.bad), network="host", before=NO_HOOKS)
        self.assertWorked(leak)  # what is there to guard
        self.assertEqual(self.bad.peers, before + 1)
        self.assertGuarded()

    def test_the_next_agent_goes_on(self):
        """A container at work when the user's agent is killed: its call waits for the next one."""
        shared = os.path.dirname(self.user.write(f"shared-{self.id()}/first", ""))
        steps = f"'{self.to(self.bad)}' '{self.to(self.good)}' 'tcp {SOMEWHERE} 80 hello'"
        script = (f"/bin/probe {steps}; while [ ! -e /shared/go ]; do sleep 0.1; done; "
                  f"touch /shared/asks; /bin/probe {steps}")
        process = self.user.start(
            env.tool("podman"), "run", "--rm", "--network", "host", "-v", f"{shared}:/shared",
            rootless.IMAGE, "/bin/sh", "-c", script,
            log=os.path.join(self.directory, f"container-{next(_IDS)}.log"))
        self.addCleanup(process.stop)
        said = lambda: runtime.parse_probe(process.output())
        process.wait_for(lambda: len(said()) == 3, 60, "it is guarded")
        for pid in self.user.processes(env.program("oakum-agent")):
            os.kill(pid, signal.SIGKILL)
        self.agent.wait(30)
        bad = self.bad.peers
        os.close(os.open(os.path.join(shared, "go"), os.O_CREAT | os.O_WRONLY))
        wait_until(lambda: os.path.exists(os.path.join(shared, "asks")), 20, "it goes on")
        time.sleep(0.3)
        self.assertEqual(len(said()), 3)
        self.start_agent()
        self.assertIn("1 session of an agent before this one go on", self.agent.output())
        process.wait_for(lambda: len(said()) == 6, 30, "its answers")
        for denied, allowed, carried in (said()[:3], said()[3:]):
            self.assertFailed(denied, "EACCES")
            self.assertWorked(allowed)
            self.assertEqual(carried["data"], "hello")
        self.assertEqual(self.bad.peers, bad)


class RootlessCase(Rootless):

    def test_a_runtime_guards(self):
        self.assertGuarded(before=[*NO_HOOKS, "--runtime",
                                   env.program("oakum-runtime")])

    def test_crun_guards_as_well(self):
        self.assertGuarded(before=["--runtime", env.tool("crun")], options=["--cgroups", "disabled"])

    def test_a_port_below_1024_is_for_who_may(self):
        """Also where the agent owns the user namespace, and so the kernel would ask nothing."""
        for dropped, errno_name in (([], ""), (["--cap-drop", "net_bind_service"], "EACCES")):
            for before in (NO_HOOKS, []):
                with self.subTest(dropped=dropped, bare=bool(before)):
                    _, step = self.probe("socket 0 inet stream", "bind 0 0.0.0.0 80",
                                         options=dropped, before=before)
                    self.assertEqual(step["errno"], errno_name, step)

    def test_the_agent_has_no_rights_over_the_machine(self):
        pid, = self.user.processes(env.program("oakum-agent"))
        with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
            status = dict(line.split(":\t") for line in lines if ":\t" in line)
        self.assertEqual(status["Uid"].split(), [str(self.user.uid)] * 4)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertEqual(status["Seccomp"].strip(), "2")
        own = os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
        self.assertEqual(own, not self.UNSHARED)
        if own:
            self.assertEqual(int(status["CapPrm"], 16), 0)

    def test_another_user_may_not_register(self):
        """Not even where the modes of folder and socket, which keep others out, have been widened."""
        connect = ["/usr/bin/python3", "-c", "import socket, sys\n"
                   "s = socket.socket(socket.AF_UNIX); s.settimeout(1); s.connect(sys.argv[1])\n"
                   "try: print('closed' if s.recv(1) == b'' else 'said')\n"
                   "except TimeoutError: print('open')\n", self.socket]
        stranger = 65_000
        result = self.user.run(*connect, uid=stranger, check=False)
        self.assertIn("Permission", result.stderr)
        self.user.run("chmod", "711", self.user.runtime_dir)
        self.user.run("chmod", "666", self.socket)
        self.addCleanup(self.user.run, "chmod", "700", self.user.runtime_dir)
        self.addCleanup(self.user.run, "chmod", "600", self.socket)
        self.assertEqual(self.user.run(*connect, uid=stranger).stdout.strip(), "closed")
        self.assertIn("neither root nor the agent's own", self.agent.output())
        self.assertEqual(self.user.run(*connect).stdout.strip(), "open")

    def test_the_user_asks_the_agent(self):
        shown = json.loads(self.user.run(env.program("oakum"), "ps", "--format", "json").stdout)
        self.assertEqual(shown, [])


class UnsharedTest(RootlessCase, case.Case):

    def test_the_doctor_finds_nothing_wrong(self):
        report = self.user.run(env.program("oakum"), "doctor", check=False)
        self.assertEqual(report.returncode, 0, report.stdout)
        self.assertIn("ok: user: ", report.stdout)
        self.assertNotIn("docker", report.stdout)

    def test_a_network_of_its_own(self):
        for before in ([], [*NO_HOOKS, "--runtime", env.program("oakum-runtime")]):
            for name in ("root", "nobody"):
                with self.subTest(before=before, user=name):
                    asked = len(self.proxy.asked)
                    denied, carried, other = self.probe(
                        self.to(self.bad), f"tcp {SOMEWHERE} 80 hello", f"tcp {SOMEWHERE} 81 hello",
                        options=["--user", name], before=before)
                    self.assertFailed(denied, "EACCES")
                    self.assertEqual((carried["data"], other["data"]), ("hello", "hello"))
                    self.assertEqual(self.proxy.asked[asked:], [(SOMEWHERE, 80), (SOMEWHERE, 81)])

    def test_a_network_by_slirp4netns(self):
        """10.0.2.2 is the machine's loopback there."""
        network = "slirp4netns:allow_host_loopback=true"
        before = self.bad.peers
        denied, allowed, carried = self.probe(
            f"tcp 10.0.2.2 {self.bad.port} hello", f"tcp 10.0.2.2 {self.good.port} hello",
            f"tcp {SOMEWHERE} 80 hello", network=network)
        self.assertFailed(denied, "EACCES")
        self.assertEqual((allowed["data"], carried["data"]), ("hello", "hello"))
        self.assertEqual(self.bad.peers, before)

    def test_without_an_agent_nothing_starts(self):
        self.stop_agent()
        self.addCleanup(self.start_agent)
        for before in ([], [*NO_HOOKS, "--runtime", env.program("oakum-runtime")]):
            result = self.podman_run("/bin/echo", "started", before=before, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertNotIn("started", result.stdout)


class UnitTest(Rootless, case.Case):
    """The agent and its keeper as the units for the user's systemd have them, by the lines that are in
    them: with who keeps what outlives it."""

    @classmethod
    def setUpClass(cls):
        cls.manager = None
        super().setUpClass()

    @classmethod
    def unit(cls, key, name="oakum-agent"):
        """What a key says, each time: as words."""
        path = os.path.join(env.SOURCE_DIR, f"packaging/user/{name}.service.in")
        with open(path, encoding="utf-8") as lines:
            found = [line.split("=", 1)[1].strip() for line in lines if line.startswith(key + "=")]
        places = {"@libexecdir@/oakum": env.SOURCE_DIR + "/packaging/user",
                  "@bindir@": os.path.dirname(env.program("oakum-agent")), "%h": cls.user.home,
                  "%t": cls.user.runtime_dir}
        for name, place in places.items():
            found = [line.replace(name, place) for line in found]
        return [line.split() for line in found]

    @classmethod
    def start_keeper(cls):
        (directory,), = cls.unit("RuntimeDirectory", "oakum-keeper")
        (mode,), = cls.unit("RuntimeDirectoryMode", "oakum-keeper")
        cls.user.run("mkdir", "-m", mode, f"{cls.user.runtime_dir}/{directory}")
        command, = cls.unit("ExecStart", "oakum-keeper")
        cls.keeper = cls.user.start(*command, log=os.path.join(cls.directory, "keeper.log"))
        cls.addClassCleanup(cls.keeper.stop)
        path = command[command.index("--keeper") + 1] + ".keeper"
        cls.keeper.wait_for(lambda: cls.user.run("test", "-S", path, check=False).returncode == 0, 20,
                            "the keeper listens")

    @classmethod
    def start_agent(cls):
        if cls.manager is None:
            cls.manager = systemd.Systemd(cls.user.base)
            cls.addClassCleanup(cls.manager.close)
            threading.Thread(target=cls.listen, daemon=True).start()
            cls.start_keeper()
            for line in cls.unit("ExecStartPre"):
                cls.user.run(*line)
        command, = cls.unit("ExecStart")
        variables = dict(word.split("=", 1) for line in cls.unit("Environment") for word in line)
        cls.events_path = command[command.index("--events") + 1]
        cls.manager.ready = False
        cls.agent = Process([*cls.manager.prefix(), *cls.user.command(*command)],
                            os.path.join(cls.directory, f"agent-{next(_IDS)}.log"),
                            environment={**cls.user.environment(), **variables}, cwd=cls.user.base)
        cls.agent.wait_for(lambda: cls.manager.ready, 20, "the agent is ready")
        cls.addClassCleanup(cls.stop_agent)

    @classmethod
    def listen(cls):
        """systemd takes what it is sent at once."""
        try:
            while True:
                cls.manager.hear()
                time.sleep(0.02)
        except OSError:
            pass

    def test_the_agent_is_the_main_process(self):
        self.assertEqual(self.user.processes(env.program("oakum-agent")), [self.agent.pid])
        with open(f"/proc/{self.agent.pid}/status", encoding="utf-8") as lines:
            status = dict(line.split(":\t") for line in lines if ":\t" in line)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertNotEqual(os.readlink(f"/proc/{self.agent.pid}/ns/user"),
                            os.readlink("/proc/self/ns/user"))
        # Only the keeper of the unit of its own keeps anything.
        self.assertFalse(os.path.exists(f"{self.user.runtime_dir}/oakum/agent.sock.keeper"))

    def test_a_network_of_its_own(self):
        denied, carried = self.probe(self.to(self.bad), f"tcp {SOMEWHERE} 80 hello")
        self.assertFailed(denied, "EACCES")
        self.assertEqual(carried["data"], "hello")

    def test_short_connections_go_on(self):
        """Each of a few milliseconds: one is always under way when the agent is killed."""
        ready = os.path.join(self.directory, "relayed.ready")
        server = Process([env.test_program("relayed"), "serve", ready, RELAYING_PROXY],
                         ready + ".log")
        self.addCleanup(server.stop)
        server.wait_for(lambda: os.path.exists(ready), 10, "the other side listens")
        name = "relayed-by-the-unit"
        process = self.user.start(
            env.tool("podman"), "run", "--rm", "--name", name, "--network", "none", rootless.IMAGE,
            "/bin/relayed", "run", steady.RELAYED, log=os.path.join(self.directory, name + ".log"))
        self.addCleanup(process.stop)
        process.wait_for(lambda: "running" in process.output(), 60, "it runs")
        self.user.podman("kill", "--signal", "USR1", name)
        for _ in range(6):
            time.sleep(0.3)
            os.kill(self.agent.pid, signal.SIGKILL)
            self.agent.wait(15)
            self.start_agent()
        time.sleep(0.3)
        self.user.podman("kill", "--signal", "TERM", name)
        process.wait(30)
        server.stop()
        said, counted = steady.numbers(process.output()), steady.numbers(server.output())
        told = f"{said}\n{counted}\n{self.agent.output()[-3000:]}"
        print(f"a user's units: {said}", flush=True)
        for stream in steady.STREAMS:
            sent, received, wrong, error = said[stream]
            self.assertEqual((wrong, error), (0, 0), told)
            self.assertEqual(counted[stream], [received, sent, 0, 0], told)
        for short in ("short", "slow"):
            done, failed, _ = said[short]
            self.assertEqual((failed, counted[short]), (0, [done, 0]), told)
        self.assertGreater(said["short"][0], 20, told)

    def test_without_a_namespace_it_says_so(self):
        command, = self.unit("ExecStart")
        result = self.user.run("env", f"XDG_RUNTIME_DIR={self.user.base}", *command, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("podman unshare", result.stderr)


class PlainTest(RootlessCase, case.Case):
    """An agent outside podman's user namespace: it cannot enter containers' networks."""

    UNSHARED = False

    def test_what_needs_the_containers_network_is_refused(self):
        denied, carried = self.probe(self.to(self.bad), f"tcp {SOMEWHERE} 80 hello")
        self.assertFailed(denied, "EACCES")
        self.assertFailed(carried, "EACCES")
        event = wait_until(lambda: self.events(event__action="proxy-failure"), 30, "the event")[0]
        self.assertIn("podman unshare", event["oakum"]["detail"])


if __name__ == "__main__":
    case.main()
