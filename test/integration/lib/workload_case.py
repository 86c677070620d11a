"""Containers that run one of workloads/, bare or guarded, with the machine's own programs."""
import json
import os
import time

from . import agent, bundle, case, env, host_rootfs, network, proc, runtime

WORKLOADS = os.path.join(env.SOURCE_DIR, "test/integration/workloads")
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


class WorkloadCase(case.Case):
    """A network with a far side, where far_server answers, and an agent for each runtime."""

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

    def bundle(self, workload, *, uid, policy, environment):
        config = bundle.make_config(
            self.rootfs, ["/usr/bin/python3", f"/workloads/{workload}.py"], netns=self.far.netns,
            uid=uid, capabilities=host_rootfs.CAPABILITIES, no_new_privileges=False,
            seccomp=self.profile, annotations={"io.oakum.policy": policy} if policy else None)
        config["process"]["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp",
                                    "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
                                    f"OAKUM_FAR={self.far.GOOD4}",
                                    f"OAKUM_REFUSED={self.far.BAD4}",
                                    *(f"{name}={value}" for name, value in environment.items())]
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}]
        config["root"]["readonly"] = True
        config["mounts"] += host_rootfs.mounts(
            self.rootfs, {"/workloads": WORKLOADS, "/data": self.data})
        return bundle.make_bundle(
            os.path.join(self.directory, runtime.Runtime.new_id()), config)

    def run_workload(self, engine_name, workload, *, uid=0, policy=None, **environment):
        """What the workload reports, with the seconds that the container took."""
        engine, _ = self.engines[engine_name]
        path = self.bundle(workload, uid=uid, policy=policy, environment=environment)
        start = time.monotonic()
        result = engine.run(path, guarded=policy is not None, timeout=180)
        seconds = time.monotonic() - start
        report = json.loads(result.stdout.splitlines()[-1])
        report["figures"]["total_s"] = round(seconds, 3)
        return report
