"""Real programs do their real work in a guarded container: each of workloads/ once bare, once with a
policy in `enforce` that decides every call and allows everything, and once with the strict list of
system calls as well. What comes out is the same; how long it took is printed, and is of the same order.

`real_programs_test.py Programs.test_curl` runs one of them; each is a test of ctest, real.curl."""
import os

from lib import agent, case, env, host_rootfs, network, proc, workload_case
from lib.workload_case import WORKLOADS

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


class Programs(workload_case.WorkloadCase):
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
            server.wait_for(lambda one=server: "listening" in one.output(), 30, "iperf3 listens")
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
