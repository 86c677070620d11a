"""Ways past the mechanism itself: filters and namespaces of the program's own, tracers, tasks of every
kind, processes of others. Each way is shown to be open without Oakum, and to lead nowhere with it; or
it is one that Oakum does not close, and the test shows that as well."""
import json
import os
import re
import shutil
import signal
import socket
import time

from lib import agent, bundle, case, env, network, proc, rootfs, runtime

_GOOD, _BAD = network.FarSide.GOOD4, network.FarSide.BAD4
# What is tried without Oakum goes to an address of its own: its last packets may come late.
_BARE = "203.0.113.30"
_STRICT = {
    "mode": "enforce",
    "outgoing": {"default": "deny", "allow": [_GOOD]},
    # Not the same as leaving it out: bind, listen and accept are decided.
    "incoming": {"default": "deny", "allow": ["*"]},
}
_OPEN = {"mode": "enforce", "outgoing": {"default": "allow"}, "dns": "allow"}
_POLICY = {
    "version": 1,
    "policies": {"strict": _STRICT, "open": _OPEN},
    "containers": [{"match": {"annotation": {"policy": "*"}}, "policy": "$policy"},
                   {"match": {}, "policy": "strict"}],
}


def packaged_capabilities():
    """A command that runs the agent with the capabilities of the packaged unit."""
    with open(os.path.join(env.SOURCE_DIR, "packaging/oakum-agent.service.in"),
              encoding="utf-8") as unit:
        names = re.search(r"^CapabilityBoundingSet=(.*)$", unit.read(), re.MULTILINE)[1].split()
    wanted = ",".join("+" + name.lower().removeprefix("cap_") for name in names)
    return [env.tool("setpriv"), f"--bounding-set=-all,{wanted}", "--"]


def parse(text):
    """Lines "name: result" as a dictionary."""
    return dict(re.findall(r"^([^:\n]+): (.*)$", text, re.MULTILINE))


class Escapes(case.Case):
    RUNTIME = "runc"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), ("escapes",))
        cls.agent = cls.start_agent()
        cls.engine = runtime.Runtime(cls.RUNTIME, cls.directory, config=cls.agent.config)
        cls.addClassCleanup(cls.engine.close)

    @classmethod
    def start_agent(cls, prefix=None):
        prefix = packaged_capabilities() if prefix is None else prefix
        started = agent.Agent(cls.directory, _POLICY, runtime=cls.RUNTIME, prefix=prefix).start()
        cls.addClassCleanup(started.stop)
        return started

    def setUp(self):
        self.far.reset()

    def bundle(self, *args, policy="strict", namespaces=None, **options):
        config = bundle.make_config(self.rootfs, ["/bin/escapes", *map(str, args)],
                                    netns=self.far.netns, annotations={"policy": policy}, **options)
        for kind, path in (namespaces or {}).items():
            entries = [e for e in config["linux"]["namespaces"] if e["type"] != kind]
            config["linux"]["namespaces"] = entries + (
                [{"type": kind, "path": path}] if path else [])
        return bundle.make_bundle(os.path.join(self.directory, self.engine.new_id()), config)

    def run_way(self, *args, guarded=True, engine=None, **options):
        path = self.bundle(*args, **options)
        self.container = self.engine.new_id()
        result = (engine or self.engine).run(path, self.container, guarded=guarded, check=False,
                                             timeout=120)
        self.assertEqual(result.returncode, 0, result)
        return parse(result.stdout)

    def start_way(self, *args, guarded=True, **options):
        log = os.path.join(self.directory, self.engine.new_id() + ".log")
        container, process = self.engine.start(self.bundle(*args, **options), log, guarded=guarded)
        self.addCleanup(process.wait)
        self.addCleanup(self.engine.delete, container)
        return container, process

    def bad_packets(self):
        return self.far.packets(_BAD)


class Filters(Escapes):
    def test_filters_of_the_programs_own(self):
        """None of them takes Oakum's away. One that asks for a notification itself has no listener:
        the call fails before the agent hears of it, so that nothing leaks and no event tells of it."""
        bare = self.run_way("filters", _BARE, _GOOD, guarded=False)
        self.assertEqual(bare, {
            "allow": "0", "errno": "EHOSTUNREACH", "trap": "ESRCH", "notify": "ENOSYS",
            "trace": "ENOSYS", "tsync": "0", "listener": "0", "strict": "0"})
        self.far.settle(_BARE, 2)
        guarded = self.run_way("filters", _BAD, _GOOD)
        self.assertEqual(guarded, {
            "allow": "EACCES", "errno": "EHOSTUNREACH", "trap": "ESRCH", "notify": "ENOSYS",
            "trace": "EACCES", "tsync": "EACCES", "listener": "EBUSY", "strict": "EINVAL"})
        # Of allow, trace and tsync; the agent has heard of nothing else.
        events = self.agent.wait_events(3, container__id=self.container)
        self.assertEqual([e["oakum"]["verdict"] for e in events], ["deny"] * 3)
        self.assertEqual(self.bad_packets(), 0)

    def test_a_tracer_of_the_containers_own_changes_a_call(self):
        """What the tracer makes of a call is what the filter sees, and the agent with it."""
        bare = self.run_way("tracer", _BARE, guarded=False)
        self.assertEqual(set(bare.values()) or {"0"}, {"0"})
        if bare:
            self.far.settle(_BARE, 2)
        guarded = self.run_way("tracer", _BAD)
        self.assertEqual(guarded, {name: "EACCES" for name in bare})
        self.assertEqual(self.bad_packets(), 0)

    def test_no_tracer_switches_the_filter_off(self):
        """PTRACE_O_SUSPEND_SECCOMP: not from under a filter, whatever the capabilities."""
        everything = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_KILL"]
        bare = self.run_way("suspend", guarded=False, capabilities=everything)
        self.assertEqual(bare, {"suspend": "0"})
        self.assertEqual(self.run_way("suspend", capabilities=everything), {"suspend": "EPERM"})


class FiltersCrun(Filters):
    RUNTIME = "crun"


class Namespaces(Escapes):
    def test_namespaces_of_the_programs_own(self):
        """An old socket sends where it always did and is decided on; what is made in the new ones goes
        nowhere; their root is nobody outside."""
        bare = self.run_way("namespaces", _BARE, _GOOD, guarded=False, uid=65534, capabilities=[])
        self.far.settle(_BARE, 2)
        self.far.settle(_GOOD, 2)
        # The veth pair adds none.
        self.assertEqual((self.far.packets(_BARE), self.far.packets(_GOOD)), (2, 2), bare)
        guarded = self.run_way("namespaces", _BAD, _GOOD, uid=65534, capabilities=[])
        self.assertEqual(bare, {
            "old socket bad": "0", "new socket bad": "ENETUNREACH", "cloned bad": "0",
            "old socket good": "0", "new socket good": "ENETUNREACH", "cloned good": "0",
            "veth": "0",
            "port 80 on an old socket, own network": "EACCES",
            "port 80 on an old socket, own user namespace": "EACCES",
            "port 80 on a new socket, own network": "0",
            "unix in an own mount namespace": "0", "seen outside": "no"})
        self.assertEqual(guarded, {
            **bare, "old socket bad": "EACCES", "new socket bad": "EACCES", "cloned bad": "EACCES"})
        self.far.settle(_GOOD, 4)
        self.assertEqual(self.bad_packets(), 0)

    def test_the_network_namespace_of_another_container(self):
        """A container that may enter it (CAP_SYS_ADMIN, and it sees the other's processes) takes its
        own policy along."""
        able = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_CHROOT"]
        other, _ = self.start_way("victim", _GOOD, _GOOD, policy="open")
        pid = self.engine.state(other)["pid"]
        shared = {"pid": None, "network": None}
        enter = ("enter", pid, _BAD)
        bare = self.run_way("enter", pid, _BARE, guarded=False, capabilities=able, namespaces=shared)
        self.assertEqual(bare, {"open": "0", "setns": "0", "connect": "0"})
        self.far.settle(_BARE)
        guarded = self.run_way(*enter, capabilities=able, namespaces=shared)
        self.assertEqual(guarded, {**bare, "connect": "EACCES"})
        self.assertEqual(self.bad_packets(), 0)
        # Without those capabilities the way is closed by the kernel.
        self.assertEqual(self.run_way(*enter, namespaces=shared)["setns"][:1], "E")


class Tasks(Escapes):
    def test_every_kind_of_task_is_decided(self):
        for user in ({"uid": 0}, {"uid": 65534, "capabilities": []}):
            with self.subTest(user=user):
                bare = self.run_way("tasks", _BARE, _GOOD, guarded=False, **user)
                self.assertGreaterEqual(len(bare), 16)
                self.assertEqual(set(bare.values()), {"0"}, bare)
                self.far.settle(_BARE, 8)
                guarded = self.run_way("tasks", _BAD, _GOOD, **user)
                self.assertEqual(guarded, {name: "EACCES" if name.endswith("bad") else "0"
                                           for name in bare})
                self.assertEqual(self.bad_packets(), 0)

    def test_a_setuid_program_acts_as_its_owner_and_no_longer(self):
        """Where the container has no no_new_privs; the identity is that of the moment of the call."""
        program = os.path.join(self.rootfs, "bin/escapes-setuid")
        shutil.copy(env.test_program("escapes"), program)
        os.chmod(program, 0o4755)
        path = os.path.join(self.rootfs, "run/private.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            self.addCleanup(os.unlink, path)
            os.chmod(path, 0o600)
            server.listen(16)
            for plain in (True, False):
                results = []
                for guarded, ip in ((False, _BARE), (True, _BAD)):
                    config = bundle.make_config(
                        self.rootfs, ["/bin/escapes-setuid", "setuid", ip, "/run/private.sock"],
                        netns=self.far.netns, uid=65534, no_new_privileges=not plain)
                    where = bundle.make_bundle(
                        os.path.join(self.directory, self.engine.new_id()), config)
                    results.append(parse(self.engine.run(where, guarded=guarded).stdout))
                bare, guarded = results
                self.assertEqual(bare, {
                    "euid": "0" if plain else "65534", "connect": "0",
                    "unix": "0" if plain else "EACCES", "bind": "0" if plain else bare["bind"],
                    "unix afterwards": "EACCES"})
                self.assertEqual(guarded, {**bare, "connect": "EACCES"})
        self.assertEqual(self.bad_packets(), 0)

    def test_floods_leave_nothing_behind(self):
        """10,000 processes of one call each, then some hundred at a time: all are answered, none is
        kept, and the agent is as large as before."""
        self.run_way("flood", 1000, 8, _GOOD)
        size, fds = self.agent_size()
        self.assertEqual(self.run_way("flood", 10_000, 8, _BAD), {"EACCES": "10000"})
        self.assertEqual(self.run_way("flood", 2_000, 200, _GOOD), {"0": "2000"})
        proc.wait_until(lambda: self.ps() == [], 20, "all sessions have ended")
        # A connection to its keeper may have come meanwhile, and gone.
        proc.wait_until(lambda: self.agent_size()[1] <= fds + 2, 20, "the descriptors are closed")
        if not env.SANITIZED:
            self.assertLess(self.agent_size()[0], size + 16 * 1024, "KiB of memory")

    def agent_size(self):
        """Resident memory in KiB, and open descriptors."""
        pid = self.agent.process.pid
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            resident = int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])
        return resident, len(os.listdir(f"/proc/{pid}/fd"))

    def ps(self):
        result = proc.run([env.program("oakum"), "ps", "--config", self.agent.config,
                           "--format", "json"], check=False)
        return json.loads(result.stdout) if result.returncode == 0 else None


class Neighbours(Escapes):
    """Two containers with different policies that share a pid namespace (as `--pid=container:` does),
    the strict one against the open one."""

    ATTACKS = {"pidfd_getfd": "0", "send": "0", "ptrace": "0", "process_vm_writev": "0"}

    def attack(self, guarded, **options):
        victim, process = self.start_way("victim", _GOOD, _BAD, policy="open", guarded=guarded)
        process.wait_for(lambda: "victim: " in process.output(), 20, "the victim is there")
        _, *numbers = parse(process.output())["victim"].split()
        pid = self.engine.state(victim)["pid"]
        self.far.settle(_BAD, 2)  # what the open policy lets it do: it connects
        self.far.reset()
        # The victim is process 1 of its namespace, which the attacker joins.
        result = self.run_way("attack", 1, *numbers, guarded=guarded,
                              namespaces={"pid": f"/proc/{pid}/ns/pid"}, **options)
        return victim, result

    def test_containers_that_share_processes_and_a_user_share_what_they_may(self):
        """Out of scope, like two programs of one user: whoever may trace a process acts as that
        process, and what that does is decided by its policy."""
        for guarded in (False, True):
            victim, result = self.attack(guarded)
            self.assertEqual(result, self.ATTACKS)
            self.far.settle(_BAD, 3)
            self.engine.delete(victim)
            self.far.reset()

    def test_another_user_of_the_shared_processes_gets_nothing(self):
        for guarded in (False, True):
            victim, result = self.attack(guarded, uid=65534, capabilities=[])
            self.assertEqual(result, {"pidfd_getfd": "EPERM", "ptrace": "EPERM",
                                      "process_vm_writev": "EPERM"})
            self.assertEqual(self.far.packets(_BAD, "udp"), 0)
            self.engine.delete(victim)


class OutOfReach(Escapes):
    def host_path(self):
        """A path that means something else below the host's root than below the container's."""
        name = f"/run/{os.path.basename(self.directory)}"
        os.makedirs(name, exist_ok=True)
        self.addCleanup(shutil.rmtree, name, ignore_errors=True)
        return name + "/x.sock"

    def test_the_agent_is_out_of_reach(self):
        """Also of a root that sees the host's processes, without CAP_SYS_PTRACE."""
        path = self.host_path()
        way = ("agent", self.agent.process.pid, path)
        own = self.run_way(*way)
        self.assertEqual((own["visible"], own["ptrace"], own["descriptors taken"]),
                         ("no", "ESRCH", "0"))
        shared = {"pid": None}
        bare = self.run_way(*way, namespaces=shared, guarded=False)
        self.assertEqual(bare["bind through /proc/self/root"], "ENOENT", "it is its own root")
        guarded = self.run_way(*way, namespaces=shared)
        self.assertEqual(guarded, {
            "visible": "yes", "ptrace": "EPERM", "descriptors taken": "0", "mem": "EACCES",
            "root": "EACCES", "fd": "EACCES", "bind through /proc/self/root": "ENOENT"})
        self.assertFalse(os.path.exists(path), "a socket was made outside the container")

    def test_who_may_trace_the_agent_is_the_agent(self):
        """Out of scope: the host's processes and CAP_SYS_PTRACE together."""
        result = self.run_way("agent", self.agent.process.pid, self.host_path(),
                              namespaces={"pid": None},
                              capabilities=["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"])
        self.assertEqual(result["ptrace"], "0")
        self.assertNotEqual(result["descriptors taken"], "0")

    def test_a_process_that_the_agent_cannot_see_is_denied(self):
        """The agent in a pid namespace of its own: notifications have no process id there."""
        unshare = [env.tool("unshare"), "--pid", "--fork", "--kill-child", "--mount-proc"]
        blind = self.start_agent(prefix=unshare)
        engine = runtime.Runtime(self.RUNTIME, self.directory, config=blind.config)
        self.addCleanup(engine.close)
        for way, results in ((("filters", _BAD, _GOOD), {"allow": "EACCES", "tsync": "EACCES"}),
                             (("tasks", _GOOD, _BAD),
                              {"vfork good": "EACCES", "no leader bad": "EACCES"})):
            got = self.run_way(*way, engine=engine)
            self.assertLessEqual(results.items(), got.items())
        self.assertEqual((self.bad_packets(), self.far.packets(_GOOD)), (0, 0))
        event = blind.wait_events(5, oakum__verdict="deny")[0]
        self.assertIn("outside the agent's pid namespace", str(event))
        self.assertTrue(blind.process.running())
        blind.stop(signal.SIGKILL)  # unshare(1) ignores SIGTERM


class OrdinaryUser(Escapes):
    """Under `oakum run` without root: the guard has no more rights than the program."""

    def setUp(self):
        super().setUp()
        self.oakum = shutil.copy(env.program("oakum"), self.directory)
        self.program = shutil.copy(env.test_program("escapes"), self.directory)
        self.fidelity = shutil.copy(env.test_program("fidelity"), self.directory)

    def run_as_user(self, *command, mode=None, policy=_STRICT):
        """Without a mode: without a guard. Returns what the program says, and the events."""
        guard = []
        events = os.path.join(self.directory, self.engine.new_id())
        os.mkdir(events, 0o777)
        os.chmod(events, 0o777)
        events += "/events.jsonl"
        if mode is not None:
            path = agent.write_json(os.path.join(self.directory, f"user-{mode}.json"),
                                    agent.single_policy({**policy, "mode": mode}))
            guard = [self.oakum, "run", "--policy", path, "--events", events, "--"]
        done = self.far.exec_inner(
            env.tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", *guard,
            *command, check=False, timeout=90)
        told = []
        if os.path.exists(events):
            with open(events, encoding="utf-8") as lines:
                told = [json.loads(line) for line in lines]
        return parse(done.stdout), told

    def test_a_process_that_the_guard_may_not_look_into(self):
        """One that is not dumpable: denied with an event that says why, and let pass in audit."""
        bare, _ = self.run_as_user(self.program, "tasks", _BARE, _GOOD)
        self.assertEqual(set(bare.values()), {"0"}, bare)
        self.far.settle(_BARE)
        guarded, events = self.run_as_user(self.program, "tasks", _BAD, _GOOD, mode="enforce")
        self.assertEqual(guarded, {
            name: "EACCES" if name.endswith("bad") or name == "not dumpable good" else "0"
            for name in bare})
        told = [e for e in events if "may not look into" in json.dumps(e)]
        self.assertGreaterEqual(len(told), 1, events)
        self.assertEqual({e["oakum"]["verdict"] for e in told}, {"deny"})
        self.assertEqual(self.bad_packets(), 0)
        audited, events = self.run_as_user(self.program, "tasks", _BAD, _GOOD, mode="audit")
        self.assertEqual(audited, bare)
        self.assertTrue([e for e in events if "may not look into" in json.dumps(e)])

    def test_what_is_bound_is_bound_as_without_a_guard(self):
        for case_name in ("bind", "listen", "accept"):
            bare, _ = self.run_as_user(self.fidelity, case_name)
            guarded, _ = self.run_as_user(self.fidelity, case_name, mode="enforce",
                                          policy={**_OPEN, "incoming": _STRICT["incoming"]})
            self.assertGreater(len(bare), 1)
            self.assertEqual(guarded, bare)


class TheEnd(Escapes):
    def test_ended_containers_cost_nothing(self):
        """RECV answers ENOENT for ever once the last task has gone: the session ends, no thread
        spins and nothing is kept."""
        def names():
            """Of the agent's threads."""
            tasks, found = f"/proc/{self.agent.process.pid}/task", []
            for task in os.listdir(tasks):
                try:
                    with open(f"{tasks}/{task}/comm", encoding="ascii") as name:
                        found.append(name.read().strip())
                except OSError:  # it has ended
                    pass
            return found

        def cpu():
            with open(f"/proc/{self.agent.process.pid}/stat", encoding="ascii") as stat:
                fields = stat.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        self.run_way("filters", _BAD, _GOOD)
        path = self.bundle("one", _GOOD)
        # Counted after the first container, for what is made once stays.
        proc.wait_until(lambda: "session" not in names(), 30, "the first session has ended")
        baseline = len(names())
        for _ in range(30):
            self.engine.run(path)
        proc.wait_until(lambda: "session" not in names(), 30, "all sessions have ended")
        proc.wait_until(lambda: len(names()) <= baseline, 30, "no thread is left of them")
        before = cpu()
        time.sleep(1)
        self.assertLess(cpu() - before, 0.1)
        self.assertTrue(self.agent.process.running())


del Escapes

if __name__ == "__main__":
    case.main()
