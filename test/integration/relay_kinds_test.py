"""What a restart of the agent means for connections through each kind of proxy, for datagrams, and for
more connections than may be kept."""
import os
import time

from lib import agent, case, network, proxies, runtime, steady

PROXY = network.FarSide.GATEWAY4
PATIENCE = 1.0  # of relayed, seconds: then a datagram counts as lost
# Where a container connects to (RFC 5737), and the kind of proxy that its way leads through.
SOCKS, HTTP, UNIX, TLS, UDP = (f"192.0.2.{last}" for last in range(11, 16))


class RelayKinds(steady.SteadyCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns = f"/run/netns/{cls.far.far}"
        socks = cls.add(proxies.Microsocks(cls.directory, netns=netns, host=PROXY, port=1080))
        http = cls.add(proxies.Tinyproxy(cls.directory, netns=netns, host=PROXY, port=8888))
        cls.add(proxies.Dante(cls.directory, netns=netns, host=PROXY, port=1081, methods="none",
                              external="far0"))
        door = cls.add(proxies.UnixDoor(cls.directory, socks, os.path.join(cls.directory, "door")))
        authority = proxies.Authority(cls.directory)
        # Not before microsocks, which passes nothing on to a client that sends without a pause.
        cls.add(proxies.Stunnel(cls.directory, http, *authority.issue(PROXY), host=PROXY,
                                port=1090))
        cls.document = agent.single_policy({
            "mode": "enforce", "proxy": "socks", "outgoing": {"default": "deny", "redirect": [
                SOCKS, f"{HTTP} via http", f"{UNIX} via unix", f"{TLS} via tls",
                f"{UDP} via udp"]}})
        cls.document["proxies"] = {
            "socks": {"url": f"socks5://{PROXY}:1080"}, "http": {"url": f"http://{PROXY}:8888"},
            "unix": {"url": f"socks5+unix://{door.path}"}, "udp": {"url": f"socks5://{PROXY}:1081"},
            "tls": {"url": f"https://{PROXY}:1090", "ca": authority.path}}

    @classmethod
    def add(cls, proxy):
        proxy.start()
        cls.addClassCleanup(proxy.stop)
        return proxy

    def begin(self, prefix=()):
        return self.guard("runc", self.document,
                          prefix=[*proxies.in_netns(f"/run/netns/{self.far.far}"), *prefix])

    @staticmethod
    def kill(guard):
        steady.kill(guard, 0.1)
        time.sleep(0.3)

    def test_streams_through_each_kind_of_proxy(self):
        guard, engine = self.begin()
        server = self.serve("relayed", "0.0.0.0", "destination")
        ends = {address: self.run_program(engine, "/bin/relayed", "run", address)[1]
                for address in (SOCKS, HTTP, UNIX, TLS)}
        for how in (self.kill, steady.restart, steady.upgrade):
            time.sleep(0.3)
            how(guard)
        said = {address: end() for address, end in ends.items()}
        server.stop()
        counted = server.output()
        # These proxies close both ways at the end of one, with what is still on its way.
        came = [line.split() for line in counted.splitlines() if line.startswith("stream")]
        self.assertEqual({line[3] for line in came if len(line) > 2}, {"0"}, counted)
        for address in ends:
            for name in steady.STREAMS:
                told = f"{address}: {said[address]}\n{counted}\n{guard.log()[-3000:]}"
                sent, received, wrong, error = said[address][name]
                self.assertEqual((wrong, error), (0, 0), f"{name}: {told}")
                self.assertGreater(min(sent, received), 1000, f"{name}: {told}")

    def test_beyond_the_bound_connections_work_and_are_not_kept(self):
        # A sixteenth of the limit are kept, half of these, and 32 in any case, for one container.
        guard, engine = self.begin(["prlimit", "--nofile=1024:1024"])
        self.serve("relayed", "0.0.0.0", "destination")
        _, end = self.run_program(engine, "/bin/relayed", "many", SOCKS, "40")
        time.sleep(0.3)
        self.kill(guard)
        self.assertEqual(end()["many"], [32, 8, 0], guard.log()[-3000:])
        self.assertIn("32 connections through proxies go on", guard.log())

    def test_a_socket_on_the_proxy_itself_says_what_was_asked_for(self):
        """One that has left it since says where it is."""
        far = self.far
        guard, engine = self.guard("runc", steady.relaying_policy(
            default="deny", allow=[far.GATEWAY4, far.GOOD4]))
        self.serve_relayed()
        go, log = (os.path.join(directory, "go") for directory in (self.rootfs, self.directory))
        _, process = engine.start(self.bundle(
            "/bin/probe", "socket 0 inet stream", f"connect 0 {steady.RELAYED} 7011",
            "socket 1 inet stream", f"connect 1 {steady.RELAYED} 7012", "peername 1",
            "connect 1 unspec", f"connect 1 {far.GOOD4} 80", "wait /go", "peername 0",
            "peername 1"), log)
        process.wait_for(lambda: len(runtime.parse_probe(process.output())) == 7, 20, "connected")
        for _ in range(2):
            self.kill(guard)
        with open(go, "w", encoding="ascii"):
            pass
        process.wait(30)
        said = [(step["ip"], step["port"]) for step in runtime.parse_probe(process.output())
                if step["op"] == "peername"]
        self.assertEqual(said, [(steady.RELAYED, 7012), (steady.RELAYED, 7011),
                                (far.GOOD4, 80)], guard.log())

    def test_datagrams_go_on(self):
        guard, engine = self.begin()
        _, end = self.run_program(engine, "/bin/relayed", "datagrams", UDP)
        allowed = 0
        for _ in range(3):
            time.sleep(0.3)
            begun = time.monotonic()
            self.kill(guard)
            # What is on its way is lost, and what is sent while there is no agent may be.
            allowed += 2 + int((time.monotonic() - begun) / PATIENCE)
        said = end()
        for name in ("connected", "unconnected"):
            answered, lost, wrong, error = said[name]
            told = f"{said} {guard.log()[-3000:]}"
            self.assertEqual((wrong, error), (0, 0), told)
            self.assertGreater(answered, 50, told)
            self.assertLessEqual(lost, allowed, told)
            self.assertEqual(guard.events(oakum__verdict="deny"), [], told)


if __name__ == "__main__":
    case.main()
