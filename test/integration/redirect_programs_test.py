"""Programs that know nothing of a proxy do their work through one. First bare: names and connections
leave the container for all to see. Then guarded: the same output, no packet to anywhere but the
proxy, and the names in the proxy's own log."""
from lib import case, env, far_world, proxies, redirect_case
from lib.redirect_case import ON_THE_HOST, REACHABLE, redirect

CLIENTS = ("curl", "wget", "busybox", "git", "python_urllib", "python_requests", "python_asyncio",
           "python_sockets", "node", "java", "go_static", "ssh", "apt", "dig")
TOOLS = ("curl", "wget", "busybox", "git", "node", "javac", "go", "ssh", "sshd", "apt-get",
         "apt-ftparchive", "dig", "microsocks")
ASKED_FOR = ("www.example.test:80", "www.example.test:443", "v6.example.test:80",
             "git.example.test:80", "git.example.test:443", "ssh.example.test:22",
             "deb.example.test:80", "n19.example.test:80", "203.0.113.90:80", "2001:db8::90:80")


class Programs(redirect_case.RedirectCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in TOOLS:
            env.tool(name)
        cls.world.add_git()
        cls.world.add_packages()
        cls.world.add_ssh()
        cls.build_clients()
        cls.proxies = {
            "reachable": cls.add(proxies.Microsocks(cls.directory, **cls.proxy_options(
                REACHABLE, 1080))),
            "host": cls.add(proxies.Microsocks(cls.directory, **cls.proxy_options(
                ON_THE_HOST, 1081))),
        }
        document = redirect_case.policy_file(
            {"reachable": f"socks5h://{REACHABLE}:1080", "host": f"socks5h://{ON_THE_HOST}:1081"},
            {name: redirect(name) for name in cls.proxies})
        cls.engines = {name: cls.add_agent(document, name=name) for name in ("runc", "crun")}

    def setUp(self):
        self.far.reset()

    def bare(self):
        """What the programs say without Oakum, once for all tests; and that they leak."""
        if not hasattr(Programs, "_bare"):
            _, engine = self.engines["runc"]
            outcome = self.run_clients(engine, CLIENTS)
            self.assertClientsWork(outcome, CLIENTS)
            self.assertGreater(self.far.packets(far_world.DNS, "udp", 53), 50)
            for address in ("203.0.113.80", "203.0.113.83", "203.0.113.90", "2001:db8::90"):
                self.assertGreater(self.far.packets(address, "tcp"), 2, address)
            Programs._bare = outcome
            self.far.reset()
        return Programs._bare

    def check(self, engine_name, proxy, clients, *, network=True):
        bare = self.bare()
        guard, engine = self.engines[engine_name]
        outcome = self.run_clients(engine, clients, policy=proxy, network=network)
        for name in clients:
            with self.subTest(client=name):
                self.assertEqual(outcome[name], bare[name])
        self.assertEqual(self.world.leaked((REACHABLE, 1080)), 0)
        self.assertEqual(guard.events(oakum__leak=True), [])
        return guard

    def test_through_a_proxy_in_reach(self):
        guard = self.check("runc", "reachable", CLIENTS)
        self.assertGreater(self.far.packets(REACHABLE, "tcp", 1080), 100)
        for name in ASKED_FOR:
            self.proxies["reachable"].saw(f"connected to {name}\n")
        events = guard.wait_events(100, oakum__verdict="redirect")
        self.assertEqual({event["oakum"]["leak"] for event in events}, {False})

    def test_through_the_host_without_a_network(self):
        """The container has loopback and nothing else: no packet leaves it at all."""
        self.check("runc", "host", CLIENTS, network=False)
        self.assertEqual(self.far.packets(), 0)
        for name in ASKED_FOR:
            self.proxies["host"].saw(f"connected to {name}\n")

    def test_crun(self):
        self.check("crun", "reachable", ("curl", "python_asyncio", "python_sockets", "go_static"))


if __name__ == "__main__":
    case.main()
