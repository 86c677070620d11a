"""Unix sockets of real containers: who a server sees, sockets under other names, sockets that come
from outside, and programs that swap them."""
import ctypes
import os
import socket
import struct
import subprocess
import threading
import unittest

from lib import agent, bundle, case, env, network, proc, rootfs, runtime

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_UCRED = struct.Struct("=iii")
FREE = {"mode": "enforce", "outgoing": {"default": "deny"}}
NOBODY = 65534


def namespace_pid(pid):
    """A process's number in its own pid namespace, and its name."""
    fields = {}
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            key, _, value = line.partition(":")
            fields[key] = value.split()
    return int(fields["NSpid"][-1]), fields["Name"][0]


def require_few_tasks():
    """The agent looks at 512 tasks at most (agent/caller/task.cc)."""
    with open("/proc/loadavg", encoding="ascii") as loadavg:
        tasks = int(loadavg.read().split()[3].partition("/")[2])
    if tasks > 450:
        raise unittest.SkipTest(f"{tasks} tasks are more than the agent looks at")


class Server:
    """A stream server outside: for each connection what SO_PEERCRED and SCM_CREDENTIALS say about
    the client, as (pid in its own namespace, name, uid, gid), and the pid that it says it has.
    `gift`: a descriptor that it hands out instead."""

    def __init__(self, path, gift=None):
        self.path = path
        self.gift = gift
        self.seen = []
        self.connections = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # accepted ones inherit it
        self._socket.bind(path)
        os.chmod(path, 0o666)
        self._socket.listen(64)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @staticmethod
    def _describe(raw):
        pid, uid, gid = _UCRED.unpack(raw)
        return (*namespace_pid(pid), uid, gid)

    def _serve(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with client:
                client.settimeout(20)
                try:
                    self._answer(client)
                except OSError:
                    pass  # a client that has left

    def _answer(self, client):
        if self.gift is not None:
            socket.send_fds(client, [b"x"], [self.gift])
            client.recv(1)
            return
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        data, control, _, _ = client.recvmsg(64, socket.CMSG_SPACE(_UCRED.size))
        if not data:
            return
        message = next(value for level, kind, value in control
                       if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS))
        self.seen.append((self._describe(peer), self._describe(message), int(data)))
        client.send(b"x")

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._socket.close()


class UnixSockets(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), ("probe", "unixsock"))
        cls.shared = os.path.join(cls.directory, "shared")
        os.makedirs(cls.shared)
        os.chmod(cls.shared, 0o777)
        cls.count = 0

    def server(self, **options):
        type(self).count += 1
        server = Server(os.path.join(self.shared, f"s{self.count}"), **options)
        self.addCleanup(server.close)
        return server

    def engine(self, policy, name="runc"):
        guard = agent.Agent(self.directory, agent.single_policy(policy), runtime=name).start()
        self.addCleanup(guard.stop)
        engine = runtime.Runtime(name, self.directory, config=guard.config)
        self.addCleanup(engine.close)
        return guard, engine

    def bundle(self, *args, destination="/shared", **options):
        """A bundle that runs unixsock with the shared directory at `destination`."""
        config = bundle.make_config(self.rootfs, ["/bin/unixsock", *map(str, args)],
                                    netns=self.far.netns, **options)
        config["mounts"].append({"destination": destination, "source": self.shared, "type": "bind",
                                 "options": ["rbind", "rw"]})
        type(self).count += 1
        return bundle.make_bundle(os.path.join(self.directory, f"bundle-{self.count}"), config)

    def run_client(self, engine, server, threads, guarded=True, **options):
        """The server's view of one client."""
        before = len(server.seen)
        path = self.bundle("client", f"/shared/{os.path.basename(server.path)}", threads, **options)
        steps = engine.run_probe(path, guarded=guarded)
        self.assertWorked(steps[0])
        self.assertEqual(len(server.seen), before + 1)
        return server.seen[-1]

    def assertSeesTheClient(self, seen, uid):
        peer, message, pid = seen
        self.assertEqual(peer, (pid, "unixsock", uid, uid))
        self.assertEqual(message, (pid, "unixsock", uid, uid))

    def test_a_server_sees_the_client(self):
        """runc puts its containers into a cgroup (v2) of their own: programs on it keep the
        container from connecting anything else, so that its own connect may stay native."""
        server = self.server()
        _, engine = self.engine(FREE)
        for uid in (0, NOBODY):
            for threads in (0, 3):
                with self.subTest(uid=uid, threads=threads):
                    bare = self.run_client(engine, server, threads, guarded=False, uid=uid)
                    self.assertSeesTheClient(bare, uid)
                    self.assertSeesTheClient(self.run_client(engine, server, threads, uid=uid), uid)

    def assertSeesTheAgent(self, seen, uid, guard):
        """User and group are the client's, and so is the process that a message carries."""
        peer, message, pid = seen
        self.assertEqual(peer, (*namespace_pid(guard.process.pid), uid, uid))
        self.assertEqual(message, (pid, "unixsock", uid, uid))

    def test_without_a_guard_on_the_cgroup_only_one_that_cannot_swap_is_seen(self):
        """With CAP_SYS_ADMIN a container could leave its cgroup, so the programs are not relied on;
        crun has no cgroup (v2) here."""
        require_few_tasks()
        server = self.server()
        with_admin = bundle.make_config(self.rootfs, [])["process"]["capabilities"]["bounding"]
        for name, options in (("runc", {"capabilities": [*with_admin, "CAP_SYS_ADMIN"]}),
                              ("crun", {})):
            guard, engine = self.engine(FREE, name)
            with self.subTest(runtime=name):
                # Looking at every task fails where one is made meanwhile: somebody else's, too.
                for attempt in range(20):
                    seen = self.run_client(engine, server, 0, uid=NOBODY, **options)
                    if seen[0][1] == "unixsock":
                        break
                self.assertSeesTheClient(seen, NOBODY)
                seen = self.run_client(engine, server, 3, uid=NOBODY, **options)
                if name == "runc" or os.path.ismount("/sys/fs/cgroup/unified"):
                    self.assertSeesTheAgent(seen, NOBODY, guard)

    def test_where_a_path_may_be_denied_the_agent_is_seen(self):
        server = self.server()
        guard, engine = self.engine({**FREE, "unix": {"deny": ["/nowhere"]}})
        for uid in (0, NOBODY):
            self.assertSeesTheAgent(self.run_client(engine, server, 0, uid=uid), uid, guard)

    def listen(self, engine, threads, guarded=True):
        """What a client outside sees of a server in a container: pid, its name, uid."""
        type(self).count += 1
        name = f"l{self.count}"
        path = os.path.join(self.shared, name)
        log = os.path.join(self.directory, name + ".log")
        _, process = engine.start(self.bundle("server", f"/shared/{name}", threads, uid=NOBODY), log,
                                  guarded=guarded)
        self.addCleanup(process.stop)

        def connected():
            client = socket.socket(socket.AF_UNIX)
            if client.connect_ex(path) == 0:
                return client
            client.close()
            return None

        with proc.wait_until(connected, 20, "the server listens") as client:
            raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            pid, uid, _ = _UCRED.unpack(raw)
            seen = (namespace_pid(pid)[1], uid)
        process.wait(20)
        return seen

    def test_a_client_sees_the_server(self):
        """listen(2) is decided under this policy; bind and listen stay native under others."""
        require_few_tasks()
        _, free = self.engine(FREE)
        _, decided = self.engine({**FREE, "incoming": {"default": "deny"}})
        self.assertEqual(self.listen(decided, 3, guarded=False), ("unixsock", NOBODY))
        self.assertEqual(self.listen(free, 3), ("unixsock", NOBODY))
        for attempt in range(20):
            seen = self.listen(decided, 0)
            if seen[0] == "unixsock":
                break
        self.assertEqual(seen, ("unixsock", NOBODY))
        self.assertEqual(self.listen(decided, 3), ("oakum-agent", NOBODY))

    def test_swapping_the_descriptor_reaches_nothing(self):
        """A thread, or a process with the same descriptors, puts a TCP socket under the number of a
        unix socket and an internet address in the place of its own while connects are decided."""
        far, server = self.far, self.server()
        guard, engine = self.engine(FREE)
        for way in ("swap", "fork-swap"):
            with self.subTest(way=way):
                arguments = (way, f"/shared/{os.path.basename(server.path)}", far.BAD4, 80)
                far.reset()
                engine.run(self.bundle(*arguments, 10000000), guarded=False)
                self.assertGreater(far.packets(far.BAD4), 0, "the race is not even open natively")
                # Unix connects of threaded programs are native here.
                self.assertSeesTheClient(self.run_client(engine, server, 3), 0)
                far.reset()
                before = server.connections
                reached, stopped = engine.run_probe(self.bundle(*arguments, 500000))
                self.assertEqual(reached["ret"], 0)
                # The race was met, and it was the guard on the cgroup that stopped it.
                self.assertGreater(stopped["ret"], 0)
                self.assertEqual(far.packets(), 0)
                self.assertGreater(server.connections, before)
        guard.stop()

    def test_audit_takes_the_guard_off(self):
        """A policy that audits lets the container connect by itself, also one that did not before; and
        the next one that does not puts the guard on again."""
        far, server = self.far, self.server()
        guard, engine = self.engine(FREE)
        socket_path = f"/shared/{os.path.basename(server.path)}"
        config = bundle.make_config(self.rootfs, [
            "/bin/sh", "-c", f"/bin/unixsock client {socket_path} 3 && /bin/touch /shared/ready && "
            f"/bin/probe 'wait /shared/go' 'tcp {far.BAD4} 80 hello' 'wait /shared/again' "
            f"> /shared/out && /bin/unixsock client {socket_path} 3"], netns=far.netns)
        config["mounts"].append({"destination": "/shared", "source": self.shared, "type": "bind",
                                 "options": ["rbind", "rw"]})
        log = os.path.join(self.directory, "audit.log")
        _, process = engine.start(
            bundle.make_bundle(os.path.join(self.directory, "audit"), config), log)
        self.addCleanup(process.stop)
        proc.wait_until(proc.path_exists(os.path.join(self.shared, "ready")), 20, "the connect")
        self.assertSeesTheClient(server.seen[-1], 0)
        reloads = lambda: guard.log().count("is read again")
        for number, (policy, sign) in enumerate((({**FREE, "mode": "audit"}, "go"), (FREE, "again"))):
            guard.set_policy(agent.single_policy(policy))
            guard.reload()
            proc.wait_until(lambda: reloads() > number, 30, "the reload")
            with open(os.path.join(self.shared, sign), "w", encoding="ascii"):
                pass
            if sign == "go":
                guard.wait_events(1, oakum__verdict="audit")
        self.assertEqual(process.wait(20), 0)
        with open(os.path.join(self.shared, "out"), encoding="ascii") as out:
            self.assertWorked(next(step for step in runtime.parse_probe(out.read())
                                   if step["op"] == "tcp"))
        self.assertSeesTheClient(server.seen[-1], 0)

    def test_a_socket_of_the_host_is_denied_wherever_it_is_mounted(self):
        server = self.server()
        name = os.path.basename(server.path)
        for runtime_name in ("runc", "crun"):
            for rule in (server.path, f"{self.shared}/*"):
                with self.subTest(runtime=runtime_name, rule=rule):
                    guard, engine = self.engine({**FREE, "unix": {"deny": [rule]}}, runtime_name)
                    path = self.bundle("client", f"/somewhere/else/{name}", 0,
                                       destination="/somewhere/else")
                    seen = len(server.seen)
                    self.assertWorked(engine.run_probe(path, guarded=False)[0])
                    self.assertEqual(len(server.seen), seen + 1)
                    connections = server.connections
                    self.assertFailed(engine.run_probe(path, check=False)[0], "EACCES")
                    self.assertEqual(server.connections, connections)
                    event = guard.wait_events(1, oakum__verdict="deny")[0]
                    self.assertEqual(event["rule"]["name"], f"unix.deny {rule}")
                    self.assertEqual(event["destination"]["address"], f"/somewhere/else/{name}")

    def made_inside(self, kind):
        """A socket in the container's network namespace, made by somebody outside."""
        made = []

        def make():
            with open(self.far.netns, "rb") as netns:
                if _LIBC.setns(netns.fileno(), _CLONE_NEWNET) == 0:
                    made.append(socket.socket(socket.AF_INET, kind))

        thread = threading.Thread(target=make)  # setns(2) is for this thread only
        thread.start()
        thread.join(20)
        return made[0]

    def receive(self, engine, server, guarded):
        far = self.far
        path = self.bundle("receive", f"/shared/{os.path.basename(server.path)}", far.BAD4, 443)
        far.reset()
        return engine.run_probe(path, guarded=guarded)

    def test_a_socket_that_is_handed_over_is_decided_when_it_connects(self):
        far = self.far
        _, engine = self.engine(FREE)
        with self.made_inside(socket.SOCK_DGRAM) as gift:
            server = self.server(gift=gift.fileno())
            write, send, connect = self.receive(engine, server, False)
            self.assertFailed(write, "EDESTADDRREQ")
            self.assertWorked(send)
            self.assertWorked(connect)
            self.assertGreater(far.packets(far.BAD4), 0)
        with self.made_inside(socket.SOCK_DGRAM) as gift:
            server.gift = gift.fileno()
            write, send, connect = self.receive(engine, server, True)
            self.assertFailed(write, "EDESTADDRREQ")
            self.assertFailed(send, "EACCES")
            self.assertFailed(connect, "EACCES")
            self.assertEqual(far.packets(), 0)

    def test_a_connected_socket_that_is_handed_over_stays_connected(self):
        """Out of scope: whoever hands it over could carry the data himself. What it is connected to
        cannot be changed."""
        far = self.far
        _, engine = self.engine(FREE)
        with self.made_inside(socket.SOCK_DGRAM) as gift:
            gift.connect((far.GOOD4, 443))
            server = self.server(gift=gift.fileno())
            write, send, connect = self.receive(engine, server, True)
            self.assertWorked(write)
            self.assertFailed(send, "EACCES")
            self.assertFailed(connect, "EACCES")
            self.assertEqual(far.packets(far.BAD4), 0)
            self.assertGreater(far.packets(far.GOOD4), 0)

    def run_with(self, engine, given, path, guarded=True, meanwhile=lambda: None):
        """Runs a bundle whose program is started with a socket as descriptor 3."""
        name = engine.new_id()
        self.addCleanup(engine.delete, name)
        command = engine.command("run", "--preserve-fds", "1", "--bundle", path, name,
                                 guarded=guarded)
        with subprocess.Popen(["/bin/sh", "-c", 'exec "$@" 3<&0 </dev/null', "sh", *command],
                              stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=env.clean_environment()) as process:
            try:
                meanwhile()
            finally:
                output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, output)
        return runtime.parse_probe(output)

    def test_sockets_that_it_is_started_with_are_reported(self):
        """They are not stopped: what was connected is connected. A policy that enforces says so in
        an event as soon as the runtime hands the container over."""
        far = self.far
        for name in runtime.Runtime.NAMES:
            for address, leak in ((far.BAD4, True), (far.GOOD4, False)):
                with self.subTest(runtime=name, address=address):
                    policy = {"mode": "enforce",
                              "outgoing": {"default": "deny", "allow": [far.GOOD4]}}
                    guard, engine = self.engine(policy, name)
                    # Runtimes do not wait for the agent: a program that has ended is not seen.
                    seen = os.path.join(self.shared, f"seen-{name}-{address}")
                    path = self.bundle("inherited", 3, f"/shared/{os.path.basename(seen)}")

                    def wait_for_event(agents=guard, done=seen):
                        try:
                            agents.wait_events(1, timeout=20)
                        finally:
                            with open(done, "w", encoding="ascii"):
                                pass

                    with self.made_inside(socket.SOCK_DGRAM) as given:
                        given.connect((address, 443))
                        local = given.getsockname()
                        far.reset()
                        step, = self.run_with(engine, given, self.bundle("inherited", 3), False)
                        self.assertWorked(step)
                        step, = self.run_with(engine, given, path, meanwhile=wait_for_event)
                        self.assertWorked(step)
                        self.assertEqual(far.packets(address), 2)
                    event, = guard.wait_events(1)
                    self.assertEqual(event["event"]["action"], "inherited-socket")
                    self.assertEqual(event["event"]["kind"], "alert" if leak else "event")
                    self.assertEqual(event["destination"]["ip"], address)
                    self.assertEqual(event["destination"]["port"], 443)
                    self.assertEqual((event["source"]["ip"], event["source"]["port"]), local)
                    self.assertEqual(event["network"]["transport"], "udp")
                    self.assertEqual(event["oakum"]["leak"], leak)
                    self.assertEqual(event["oakum"]["verdict"], "audit" if leak else "allow")
                    self.assertEqual(event["oakum"]["detail"], "descriptor 3, connected")
                    if leak:
                        self.assertEqual(event["oakum"]["would"], "deny")
                        self.assertEqual(event["rule"]["name"], "outgoing.default deny")

    def test_swapping_in_a_socket_from_outside_reaches_nothing(self):
        """The guard is on all sockets, whoever has made them: one that the container was started
        with, and one that is handed over."""
        far, server = self.far, self.server()
        _, engine = self.engine(FREE)
        arguments = (f"/shared/{os.path.basename(server.path)}", far.BAD4, 80)
        for guarded in (False, True):
            with self.subTest(guarded=guarded), self.made_inside(socket.SOCK_STREAM) as given:
                far.reset()
                path = self.bundle("swap-given", *arguments, 500000 if guarded else 10000000)
                reached, stopped = self.run_with(engine, given, path, guarded)
                if guarded:
                    self.assertEqual((reached["ret"], far.packets()), (0, 0))
                    self.assertGreater(stopped["ret"], 0)
                else:
                    self.assertEqual(reached["ret"], 1, "the race is not even open natively")
                    self.assertGreater(far.packets(far.BAD4), 0)

    def test_an_ordinary_start_reports_nothing(self):
        server = self.server()
        for name in runtime.Runtime.NAMES:
            for no_new_privileges in (True, False):
                guard, engine = self.engine(FREE, name)
                self.run_client(engine, server, 0, no_new_privileges=no_new_privileges)
                self.assertEqual(guard.events(event__action="inherited-socket"), [])


if __name__ == "__main__":
    case.main()
