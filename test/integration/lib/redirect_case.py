"""Containers whose traffic goes through a proxy: a far side with names, an agent for which the far side's
network is the host's, and the clients of workloads/redirected.py, bare and guarded."""
import json
import os

from . import agent, bundle, case, env, far_world, host_rootfs, network, proc, proxies, runtime
from .workload_case import ENGINE_PROFILE, WORKLOADS

# A proxy in the container's reach, and one that only the host has.
REACHABLE, ON_THE_HOST = network.FarSide.GATEWAY4, "127.0.0.1"
LOOPBACK = ["127.0.0.0/8", "[::1]"]


def redirect(proxy, **more):
    """A policy that carries everything but loopback through the proxy of that name."""
    return {"mode": "enforce", "proxy": proxy, "log": "all",
            "outgoing": {"default": "redirect", "allow": LOOPBACK}, **more}


def policy_file(proxy_urls, policies):
    """proxy_urls: name -> URL or the whole object."""
    return {"version": 1,
            "proxies": {name: {"url": value} if isinstance(value, str) else value
                        for name, value in proxy_urls.items()},
            "policies": policies,
            "containers": [{"match": {"annotation": {"io.oakum.policy": "*"}},
                            "policy": "$io.oakum.policy"}]}


class RedirectCase(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.world = far_world.FarWorld(cls.directory)
        cls.addClassCleanup(cls.world.close)
        cls.far = cls.world.far
        cls.rootfs = host_rootfs.make(os.path.join(cls.directory, "rootfs"))
        for name, text in (("resolv.conf", f"nameserver {far_world.DNS}\noptions timeout:20\n"),
                           ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")):
            with open(os.path.join(cls.rootfs, "etc", name), "w", encoding="ascii") as out:
                out.write(text)
        cls.data = os.path.join(cls.directory, "data")
        os.makedirs(cls.data)
        with open(ENGINE_PROFILE, encoding="utf-8") as profile:
            cls.profile = json.load(profile)

    @classmethod
    def add(cls, proxy):
        """Starts a proxy for the whole class."""
        proxy.start()
        cls.addClassCleanup(proxy.stop)
        return proxy

    @classmethod
    def proxy_options(cls, host, port):
        return {"netns": cls.world.netns, "host": host, "port": port, "hosts": cls.world.hosts}

    @classmethod
    def add_agent(cls, document, *, name="runc"):
        """(agent, runtime) whose host is the far side."""
        guard = agent.Agent(cls.directory, document, runtime=name,
                            prefix=proxies.in_netns(cls.world.netns)).start()
        cls.addClassCleanup(guard.stop)
        engine = runtime.Runtime(name, cls.directory, config=guard.config)
        cls.addClassCleanup(engine.close)
        return guard, engine

    @classmethod
    def build_clients(cls):
        """What java and go_static run."""
        source = os.path.join(WORKLOADS, "redirect")
        compiler = os.path.realpath(env.tool("javac"))
        os.symlink(os.path.dirname(os.path.dirname(compiler)), os.path.join(cls.data, "jvm"))
        proc.run([compiler, "-d", os.path.join(cls.data, "java"),
                  os.path.join(source, "Client.java")])
        proc.run([env.tool("go"), "build", "-o", os.path.join(cls.data, "go-client"),
                  os.path.join(source, "client.go")], timeout=240, environment=env.clean_environment(
                      CGO_ENABLED="0", GO111MODULE="off", GOTOOLCHAIN="local", GOPROXY="off",
                      GOCACHE=os.path.join(env.TEST_BIN_DIR, "go-cache")))

    def container(self, args, *, policy, network=True, uid=0):
        """A bundle that runs a program of the machine's in a container. network=False: it has
        nothing but loopback."""
        config = bundle.make_config(
            self.rootfs, args, netns=self.far.netns if network else None, uid=uid,
            capabilities=host_rootfs.CAPABILITIES, no_new_privileges=False, seccomp=self.profile,
            annotations={"io.oakum.policy": policy} if policy else None)
        config["process"]["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp",
                                    "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"]
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}]
        config["root"]["readonly"] = True
        config["mounts"] += host_rootfs.mounts(self.rootfs, {
            "/workloads": WORKLOADS, "/data": self.data, "/shared": self.world.shared})
        return bundle.make_bundle(os.path.join(self.directory, runtime.Runtime.new_id()), config)

    def run_clients(self, engine, clients, *, policy=None, network=True):
        """What each client reports. No policy: bare."""
        path = self.container(["/usr/bin/python3", "/workloads/redirected.py", *clients],
                              policy=policy, network=network)
        result = engine.run(path, guarded=policy is not None, timeout=240)
        report = json.loads(result.stdout.splitlines()[-1])
        print(f"{policy or 'bare'}: {report['seconds']}", flush=True)
        return report["outcome"]

    def assertClientsWork(self, outcome, clients):
        for name in clients:
            self.assertIsInstance(outcome[name], dict, f"{name}: {outcome[name]}")
