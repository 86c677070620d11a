"""The same through podman and Docker: the container's own resolv.conf, and Docker's resolver at
127.0.0.11, which forwards from the host."""
import os

from lib import case, docker, env, far_world, podman, proxies, redirect_case, rootfs
from lib.agent import Agent
from lib.redirect_case import ON_THE_HOST, REACHABLE, redirect

FETCH = ("/bin/busybox", "wget", "-q", "-O", "-", "http://www.example.test/bytes/10")
_NETWORK = "oakum-redirect"


class Engine:
    """Needs run(guarded, policy), which returns what FETCH printed."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.world = far_world.FarWorld(cls.directory)
        cls.addClassCleanup(cls.world.close)
        cls.far = cls.world.far
        cls.proxies = {}
        for name, host, port in (("reachable", REACHABLE, 1080), ("host", ON_THE_HOST, 1081)):
            cls.proxies[name] = proxies.Microsocks(
                cls.directory, netns=cls.world.netns, host=host, port=port, hosts=cls.world.hosts)
            cls.proxies[name].start()
            cls.addClassCleanup(cls.proxies[name].stop)
        document = redirect_case.policy_file(
            {"reachable": f"socks5h://{REACHABLE}:1080", "host": f"socks5h://{ON_THE_HOST}:1081"},
            {name: redirect(name) for name in cls.proxies})
        document["containers"].append(
            {"match": {"engine": "docker", "label": {"test.policy": "host"}}, "policy": "host"})
        document["containers"].append({"match": {}, "policy": "reachable"})
        cls.agent = Agent(cls.directory, document,
                          prefix=proxies.in_netns(cls.world.netns)).start()
        cls.addClassCleanup(cls.agent.stop)
        files = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))
        cls.archive = rootfs.pack_rootfs(files, os.path.join(cls.directory, "rootfs.tar"))

    def test_names_and_connections_come_through_the_proxy(self):
        self.far.reset()
        self.assertEqual(self.run_engine(None), "0123456789")
        self.assertGreater(self.far.packets(protocol="tcp", port=80), 3)
        self.assertGreater(self.far.packets(protocol="udp", port=53), 0)
        self.far.wait_quiet()
        for policy, proxy in self.proxies.items():
            with self.subTest(policy=policy):
                self.far.reset()
                self.assertEqual(self.run_engine(policy), "0123456789")
                self.assertEqual(self.world.leaked((REACHABLE, 1080)), 0, self.far.seen())
                proxy.saw("connected to www.example.test:80\n")


class Podman(Engine, case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = podman.Podman(cls.directory, runtime="crun", rootfs_archive=cls.archive)
        cls.addClassCleanup(cls.engine.close)
        cls.hooks = podman.write_hook(cls.directory + "/hooks", cls.agent.config)

    def run_engine(self, policy):
        options = ["--dns", far_world.DNS]
        if policy:
            options += ["--annotation", f"io.oakum.policy={policy}"]
        before = ["--hooks-dir", self.hooks] if policy else []
        return self.engine.run(*FETCH, netns=self.far.netns, options=options, before=before).stdout

    def test_without_a_network(self):
        """--network none: the host's proxy is the only way out."""
        resolv = os.path.join(self.directory, "resolv.conf")
        with open(resolv, "w", encoding="ascii") as out:
            out.write(f"nameserver {far_world.DNS}\n")
        self.far.reset()
        done = self.engine.run(*FETCH, netns=None, before=["--hooks-dir", self.hooks], options=[
            "--volume", f"{resolv}:/etc/resolv.conf:ro", "--annotation", "io.oakum.policy=host"])
        self.assertEqual(done.stdout, "0123456789")
        self.assertEqual(self.far.packets(), 0)


class Docker(Engine, case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = docker.Docker(
            cls.directory, cls.far, rootfs_archive=cls.archive,
            runtimes={"oakum": {"path": env.program("oakum-runtime"),
                                "runtimeArgs": [f"--oakum-config={cls.agent.config}"]}})
        cls.addClassCleanup(cls.engine.close)
        # A network with a name has the resolver at 127.0.0.11.
        cls.engine.docker("network", "create", "--driver", "bridge", "--subnet", "10.78.0.0/24",
                          "--opt", "com.docker.network.bridge.name=oakumbr1", _NETWORK)
        cls.addClassCleanup(cls.engine.docker, "network", "rm", _NETWORK, check=False)
        # The host of these containers is a router to the far side.
        ip = env.tool("ip")
        cls.far.exec_inner(env.tool("sysctl"), "-q", "net.ipv4.ip_forward=1")
        cls.far.exec_inner(ip, "route", "add", "default", "via", cls.far.GATEWAY4)
        cls.far.in_netns(cls.far.far, ip, "route", "add", "10.78.0.0/24", "via", cls.far.INNER4,
                         "dev", "far0")

    def run_engine(self, policy):
        options = ["--dns", far_world.DNS, "--network", _NETWORK]
        if policy:
            options += ["--label", f"test.policy={policy}"]
        done = self.engine.run("/bin/sh", "-c", "cat /etc/resolv.conf >&2; exec " + " ".join(FETCH),
                               runtime="oakum" if policy else None, options=options)
        self.assertIn("nameserver 127.0.0.11", done.stderr)
        return done.stdout


if __name__ == "__main__":
    case.main()
