"""Real programs do their real work in a guarded container: each of workloads/ once bare, once with a
policy in `enforce` that decides every call and allows everything, and once with the strict list of
system calls as well. What comes out is the same; how long it took is printed, and is of the same order.

`real_programs_test.py Programs.test_curl` runs one of them; each is a test of ctest, real.curl."""
import json
import os
import time

from lib import agent, bundle, case, env, host_rootfs, network, proc, runtime

WORKLOADS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "workloads")
# Docker's own filter is what a container has beside Oakum's.
ENGINE_PROFILE = os.path.join(env.SOURCE_DIR, "test/data/seccomp/docker-default.json")
ALLOWED = {
    "mode": "enforce",
    # Nothing that a workload needs: what shows that the guard is there.
    "outgoing": {"default": "allow", "deny": [network.FarSide.BAD4]},
    "dns": "allow",
    # Not the same as leaving them out: with rules, bind, listen, accept and paths are decided.
    "incoming": {"default": "deny", "allow": ["*", "* from *"]},
    "unix": {"default": "allow", "deny": ["/nowhere/at/all"]},
}
POLICY = {
    "version": 1,
    "policies": {"allowed": ALLOWED, "strict": {**ALLOWED, "syscalls": {"base": "strict"}}},
    "containers": [{"match": {"annotation": {"io.oakum.policy": "*"}},
                    "policy": "$io.oakum.policy"}],
}
# What the workload's guard() is told, by policy.
GUARD = {
    None: ["ECONNREFUSED", "ESRCH"],
    "allowed": ["EACCES", "ESRCH"],
    "strict": ["EACCES", "EPERM"],
}
# Also on crun: those that take a second or two.
ON_BOTH = ("apt", "curl", "node", "python_asyncio", "wget")
# What a workload runs beside python3; Debian's, by their full names.
NEEDS = {
    "apt": ("apt-get", "apt-ftparchive", "dpkg-deb"),
    "curl": ("curl",),
    "git": ("git", "openssl"),
    "go_static": ("go",),
    "iperf3": ("iperf3",),
    "java_nio": ("javac",),
    "nginx": ("nginx", "wrk", "curl"),
    "node": ("node",),
    "postgres": ("psql",),
    "python_asyncio": ("openssl",),
    "redis": ("redis-server", "redis-benchmark", "redis-cli"),
    "ssh": ("sshd", "ssh", "scp", "ssh-keygen", "curl"),
    "wget": ("wget",),
}
# A guarded run that takes this much longer is stuck somewhere; both runs share a busy machine.
SLOWER, SECONDS = 10, 30


def expected(event):
    """Whether a workload causes this denial: the last thing that each does, and sshd, which wants to
    write to the machine's audit log and goes on when there is none."""
    return (agent.field(event, "destination.ip") == network.FarSide.BAD4 or
            agent.field(event, "event.action") == "socket" and
            agent.field(event, "process.name") == "sshd")


class Programs(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        proc.run([env.tool("ip"), "-n", cls.far.inner, "link", "set", "lo", "up"])
        cls.rootfs = host_rootfs.make(os.path.join(cls.directory, "rootfs"))
        cls.data = os.path.join(cls.directory, "data")
        os.makedirs(cls.data)
        with open(ENGINE_PROFILE, encoding="utf-8") as profile:
            cls.profile = json.load(profile)
        cls.engines = {}
        for name in runtime.Runtime.NAMES:
            guard = agent.Agent(cls.directory, POLICY, runtime=name).start()
            cls.addClassCleanup(guard.stop)
            engine = runtime.Runtime(name, cls.directory, config=guard.config)
            cls.addClassCleanup(engine.close)
            cls.engines[name] = (engine, guard)
        cls.far_server = proc.Process(
            [env.tool("ip"), "netns", "exec", cls.far.far, "/usr/bin/python3",
             os.path.join(WORKLOADS, "http_server.py"), cls.far.GOOD4, "8080", "200"],
            os.path.join(cls.directory, "far-http.log"))
        cls.addClassCleanup(cls.far_server.stop)

    def bundle(self, workload, *, uid, policy):
        config = bundle.make_config(
            self.rootfs, ["/usr/bin/python3", f"/workloads/{workload}.py"], netns=self.far.netns,
            uid=uid, capabilities=host_rootfs.CAPABILITIES, no_new_privileges=False,
            seccomp=self.profile, annotations={"io.oakum.policy": policy} if policy else None)
        config["process"]["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp",
                                    "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
                                    f"OAKUM_FAR={self.far.GOOD4}",
                                    f"OAKUM_REFUSED={self.far.BAD4}"]
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}]
        config["root"]["readonly"] = True
        config["mounts"] += host_rootfs.mounts(
            self.rootfs, {"/workloads": WORKLOADS, "/data": self.data})
        return bundle.make_bundle(
            os.path.join(self.directory, runtime.Runtime.new_id()), config)

    def run_workload(self, engine_name, workload, *, uid=0, policy=None):
        """What the workload reports, with the seconds that the container took."""
        engine, _ = self.engines[engine_name]
        path = self.bundle(workload, uid=uid, policy=policy)
        start = time.monotonic()
        result = engine.run(path, guarded=policy is not None, timeout=150)
        seconds = time.monotonic() - start
        report = json.loads(result.stdout.splitlines()[-1])
        report["figures"]["total_s"] = round(seconds, 3)
        return report

    def check(self, workload, *, uid=0):
        for program in NEEDS[workload]:
            env.tool(program)
        bare = self.run_workload("runc", workload, uid=uid)
        self.assertEqual(bare["guard"], GUARD[None])
        runs = [("runc", "allowed"), ("runc", "strict")]
        if workload in ON_BOTH:
            runs.append(("crun", "allowed"))
        guarded = {}
        for engine, policy in runs:
            guarded[engine, policy] = self.run_workload(engine, workload, uid=uid, policy=policy)
        for name, value in bare["figures"].items():
            print(f"{workload} {name}: bare {value}, " + ", ".join(
                f"{policy} ({engine}) {report['figures'].get(name)}"
                for (engine, policy), report in guarded.items()))
        for (engine, policy), report in guarded.items():
            with self.subTest(engine=engine, policy=policy):
                self.assertEqual(report["outcome"], bare["outcome"])
                self.assertEqual(report["guard"], GUARD[policy])
                for name, seconds in bare["figures"].items():
                    if name.endswith("_s"):
                        self.assertLess(report["figures"][name], seconds * SLOWER + SECONDS, name)
        for _, guard in self.engines.values():
            self.assertEqual([event for event in guard.events(oakum__verdict="deny")
                              if not expected(event)], [])

    def test_apt(self):
        self.check("apt")

    def test_curl(self):
        self.check("curl")

    def test_git(self):
        self.check("git")

    def test_go(self):
        output = os.path.join(self.data, "go", "program")
        # The standard library without cgo is compiled once for each build folder.
        proc.run([env.tool("go"), "build", "-o", output, os.path.join(WORKLOADS, "go", "main.go")],
                 timeout=240, environment=env.clean_environment(
                     CGO_ENABLED="0", GO111MODULE="off", GOTOOLCHAIN="local", GOPROXY="off",
                     GOCACHE=os.path.join(env.TEST_BIN_DIR, "go-cache")))
        self.check("go_static")

    def test_iperf3(self):
        for port in range(5201, 5205):
            server = proc.Process(
                [env.tool("ip"), "netns", "exec", self.far.far, env.tool("iperf3"), "--server",
                 "--forceflush", "--bind", self.far.GOOD4, "--port", port],
                os.path.join(self.directory, f"far-iperf3-{port}.log"))
            self.addCleanup(server.stop)
            server.wait_for(lambda one=server: "listening" in one.output(), 10, "iperf3 listens")
        self.check("iperf3")

    def test_java(self):
        compiler = os.path.realpath(env.tool("javac"))
        os.symlink(os.path.dirname(os.path.dirname(compiler)), os.path.join(self.data, "jvm"))
        proc.run([compiler, "-d", os.path.join(self.data, "java"),
                  os.path.join(WORKLOADS, "java", "Nio.java")])
        self.check("java_nio")

    def test_nginx(self):
        self.check("nginx")

    def test_node(self):
        self.check("node")

    def test_postgres(self):
        self.check("postgres", uid=host_rootfs.USERS["postgres"])

    def test_python_asyncio(self):
        self.check("python_asyncio")

    def test_redis(self):
        self.check("redis")

    def test_ssh(self):
        self.check("ssh")

    def test_wget(self):
        self.check("wget")


if __name__ == "__main__":
    case.main()
