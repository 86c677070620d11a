"""Every kind of proxy that Debian has, by the same few programs: SOCKS5 with users (dante), HTTP CONNECT
with Basic authentication (tinyproxy), either behind TLS (stunnel) or a unix socket, and Tor, which has
no network here, but says what it was asked for."""
from lib import case, env, proxies, redirect_case
from lib.proxies import PASSWORD, USER
from lib.redirect_case import ON_THE_HOST, REACHABLE, redirect

# Blocking and non-blocking, names by glibc and by Go, addresses of both families, sendfile.
CLIENTS = ("curl", "python_urllib", "python_asyncio", "python_sockets", "go_static")
SECRETS = f"{USER}:{PASSWORD}@"


class Case(redirect_case.RedirectCase):
    POLICIES = {}

    @classmethod
    def start(cls, urls):
        cls.guard, cls.engine = cls.add_agent(redirect_case.policy_file(
            urls, {name: redirect(name, **cls.POLICIES.get(name, {})) for name in urls}))

    def setUp(self):
        self.far.reset()


class Carried(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("danted", "tinyproxy", "stunnel4", "socat", "ssh", "sshd"):
            env.tool(name)
        cls.world.add_ssh()
        cls.build_clients()
        directory = cls.directory
        certificate = cls.world.authority.issue("proxy.example.test", ON_THE_HOST, REACHABLE)
        cls.dante = cls.add(proxies.Dante(directory, external="far0", debug=True,
                                          **cls.proxy_options(ON_THE_HOST, 1080)))
        cls.http = cls.add(proxies.Tinyproxy(directory, user=USER, password=PASSWORD,
                                             **cls.proxy_options(REACHABLE, 8888)))
        cls.plain = cls.add(proxies.Microsocks(directory, **cls.proxy_options(REACHABLE, 1081)))
        cls.secret = cls.add(proxies.Microsocks(directory, user=USER, password=PASSWORD,
                                                **cls.proxy_options(ON_THE_HOST, 1082)))
        cls.http_tls = cls.add(proxies.Stunnel(directory, cls.http, *certificate, host=REACHABLE,
                                               port=8443))
        cls.socks_tls = cls.add(proxies.Stunnel(directory, cls.secret, *certificate,
                                                host=ON_THE_HOST, port=1443))
        cls.door = cls.add(proxies.UnixDoor(directory, cls.plain, directory + "/socks.sock"))
        cls.http_plain = cls.add(proxies.Tinyproxy(directory, **cls.proxy_options(REACHABLE, 8889)))
        cls.http_door = cls.add(proxies.UnixDoor(directory, cls.http_plain,
                                                 directory + "/http.sock"))
        authority = cls.world.authority.path
        cls.start({
            "dante": f"socks5h://{SECRETS}{ON_THE_HOST}:1080",
            "tinyproxy": f"http://{SECRETS}{REACHABLE}:8888",
            "https": {"url": f"https://{SECRETS}{REACHABLE}:8443", "ca": authority},
            "socks-tls": {"url": f"socks5h+tls://{SECRETS}{ON_THE_HOST}:1443", "ca": authority,
                          "server_name": "proxy.example.test"},
            "wrong-name": {"url": f"https://{SECRETS}{REACHABLE}:8443", "ca": authority,
                           "server_name": "somebody.example.test"},
            "wrong-authority": f"https://{SECRETS}{REACHABLE}:8443",
            "unix": f"socks5h+unix://{cls.door.path}",
            "http-unix": f"http+unix://{cls.http_door.path}",
            "failover": {"url": [f"socks5h://{REACHABLE}:1", f"socks5h://{REACHABLE}:1081"]},
        })
        cls.bare = cls.run_bare()

    @classmethod
    def run_bare(cls):
        outcome = cls.run_clients(cls("setUp"), cls.engine, (*CLIENTS, "half_close"))
        for name, got in outcome.items():
            if not isinstance(got, dict):
                raise AssertionError(f"{name}: {got}")
        if cls.far.packets("203.0.113.80", "tcp") == 0:
            raise AssertionError("nothing leaked without Oakum")
        return outcome

    def check(self, policy, log_of, line, *, network=True, allowed=(), more=()):
        clients = (*CLIENTS, *more)
        outcome = self.run_clients(self.engine, clients, policy=policy, network=network)
        for name in clients:
            with self.subTest(client=name):
                self.assertEqual(outcome[name], self.bare[name])
        self.assertEqual(self.world.leaked(*allowed), 0)
        self.assertEqual(self.guard.events(oakum__leak=True, oakum__policy=policy), [])
        for target in ("www.example.test:80", "v6.example.test:80", "n7.example.test:80",
                       "ssh.example.test:22", "203.0.113.91:7"):
            host, _, port = target.rpartition(":")
            log_of.saw(line.format(host=host, port=port))

    def assertNoSecrets(self):
        """Neither what Oakum writes nor what others see of its processes has the credentials."""
        encoded = "b2FrdW0tcHJveHk6c2VzYW1l"  # the beginning of USER:PASSWORD in Base64
        texts = {"log": self.guard.log()}
        with open(self.guard.events_path, encoding="utf-8") as events:
            texts["events"] = events.read()
        with open(f"/proc/{self.guard.process.pid}/cmdline", encoding="utf-8") as line:
            texts["command line"] = line.read()
        with open(f"/proc/{self.guard.process.pid}/environ", encoding="utf-8") as line:
            texts["environment"] = line.read()
        for where, text in texts.items():
            self.assertNotIn(PASSWORD, text, where)
            self.assertNotIn(encoded, text, where)

    def test_dante_with_a_user(self):
        """RFC 1929; the container has no network. dante ends one direction before the other."""
        self.check("dante", self.dante, "address: {host}.{port}", network=False,
                   more=("half_close",))
        self.assertIn("auth: username", self.dante.log())
        self.assertNotIn("auth: none.  Packet", self.dante.log())
        self.assertNoSecrets()

    def test_tinyproxy(self):
        """HTTP CONNECT with Basic authentication, by the agent's own connections."""
        self.check("tinyproxy", self.http, "CONNECT {host}:{port} HTTP/1.1")
        self.assertEqual(self.far.packets(), 0)
        self.assertNoSecrets()

    def test_https(self):
        self.check("https", self.http, "CONNECT {host}:{port} HTTP/1.1")
        self.assertEqual(self.far.packets(), 0)
        self.assertNoSecrets()

    def test_socks_over_tls(self):
        self.check("socks-tls", self.secret, "connected to {host}:{port}\n", network=False)
        self.assertNoSecrets()

    def test_certificates_are_verified(self):
        """A name that is not the certificate's, and an authority that nobody trusts: nothing is said
        to such a proxy."""
        for policy in ("wrong-name", "wrong-authority"):
            with self.subTest(policy=policy):
                seen = self.http.log().count("CONNECT")
                path = self.container(["/usr/bin/curl", "-sS", "--max-time", "30",
                                       "http://www.example.test/bytes/10"], policy=policy)
                done = self.engine.run(path, check=False)
                self.assertEqual(done.returncode, 7, done)  # CURLE_COULDNT_CONNECT
                self.assertEqual(self.http.log().count("CONNECT"), seen)
                event = self.guard.wait_events(event__outcome="failure", oakum__policy=policy)[-1]
                self.assertIn(f"{REACHABLE}:8443", str(event))
                self.assertIn("certificate", str(event))
        self.assertNoSecrets()

    def test_unix_socket(self):
        self.check("unix", self.plain, "connected to {host}:{port}\n", network=False)

    def test_http_over_a_unix_socket(self):
        self.check("http-unix", self.http_plain, "CONNECT {host}:{port} HTTP/1.1", network=False)

    def test_failover(self):
        """The first URL refuses: the second carries everything."""
        self.check("failover", self.plain, "connected to {host}:{port}\n",
                   allowed=((REACHABLE, 1), (REACHABLE, 1081)))


class Datagrams(Case):
    """UDP ASSOCIATE where the proxy has it, as dante does; microsocks does not."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dante = cls.add(proxies.Dante(cls.directory, external="far0", debug=True,
                                          **cls.proxy_options(ON_THE_HOST, 1080)))
        cls.add(proxies.Microsocks(cls.directory, **cls.proxy_options(ON_THE_HOST, 1081)))
        cls.start({"dante": f"socks5h://{SECRETS}{ON_THE_HOST}:1080",
                   "microsocks": f"socks5h://{ON_THE_HOST}:1081"})

    def test_carried(self):
        bare = self.run_clients(self.engine, ["udp"])
        self.assertClientsWork(bare, ["udp"])
        self.assertGreater(self.far.packets(protocol="udp", port=7), 10)
        for network in (True, False):
            with self.subTest(network=network):
                self.far.reset()
                self.assertEqual(
                    self.run_clients(self.engine, ["udp"], policy="dante", network=network), bare)
                self.assertEqual(self.far.packets(), 0)
        self.dante.saw("udp")

    def test_denied_where_the_proxy_has_it_not(self):
        path = self.container(
            ["/usr/bin/python3", "-c",
             "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(9)\n"
             "try:\n  s.sendto(b'x', ('203.0.113.90', 7)); print(s.recv(9))\n"
             "except OSError as error: print(type(error).__name__)"], policy="microsocks")
        self.assertNotIn("b'x'", self.engine.run(path).stdout)
        self.assertEqual(self.far.packets(), 0)
        event = self.guard.wait_events(oakum__policy="microsocks", destination__port=7)[-1]
        self.assertEqual(event["event"]["outcome"], "failure")


class ThroughTor(Case):
    POLICIES = {"resolve": {"resolve": "tor"}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = cls.directory
        cls.tor = cls.add(proxies.Tor(directory, **cls.proxy_options(ON_THE_HOST, 9050)))
        cls.unix = cls.add(proxies.Tor(directory, unix=directory + "/tor.sock",
                                       netns=cls.world.netns))
        url = f"socks5h://{ON_THE_HOST}:9050"
        cls.start({
            "none": url,
            "container": {"url": url, "isolate": "container"},
            "destination": {"url": url, "isolate": "destination"},
            "connection": {"url": url, "isolate": "connection", "credentials": "tor"},
            "unix": f"socks5h+unix://{directory}/tor.sock",
            "resolve": url,
        })

    def setUp(self):
        super().setUp()
        for tor in (self.tor, self.unix):
            tor.requests()

    def curl(self, policy, *urls):
        """Tor has no circuit and says so after its SocksTimeout."""
        path = self.container(["/usr/bin/curl", "-4", "-sS", "--max-time", "60", *urls],
                              policy=policy)
        done = self.engine.run(path, check=False)
        self.assertNotIn("curl: (28)", done.stderr)  # CURLE_OPERATION_TIMEDOUT
        self.assertEqual(self.far.packets(), 0)
        return done

    def credentials(self, tor, policy, *names):
        """What Tor was told by one container that fetches from all of the names, and from nothing
        else."""
        self.curl(policy, "--parallel", "--parallel-immediate",
                  *[f"http://{name}/" for name in names])
        seen = tor.requests()
        self.assertEqual(sorted(one["target"] for one in seen),
                         sorted(f"{name}:80" for name in names))
        return [(one.get("SOCKS_USERNAME"), one.get("SOCKS_PASSWORD")) for one in seen]

    def test_names_arrive_and_failure_is_told(self):
        self.assertEqual(self.credentials(self.tor, "none", "www.example.org"), [(None, None)])
        self.assertEqual(self.credentials(self.unix, "unix", "www.example.org"), [(None, None)])
        for policy, place in (("none", f"{ON_THE_HOST}:9050"), ("unix", "tor.sock")):
            event = self.guard.wait_events(event__outcome="failure", oakum__policy=policy)[-1]
            self.assertIn(place, str(event))

    def test_isolation_by_container(self):
        """384 random bits; others for the next container."""
        first = self.credentials(self.tor, "container", "a.example.org", "b.example.org")
        self.assertEqual(len(set(first)), 1)
        user, password = first[0]
        self.assertGreaterEqual(len(user + password), 64)  # in Base64
        second = self.credentials(self.tor, "container", "a.example.org")
        self.assertNotEqual(first[0], second[0])

    def test_isolation_by_destination(self):
        seen = self.credentials(self.tor, "destination", "a.example.org", "b.example.org")
        self.assertEqual(len(set(seen)), 2)

    def test_isolation_by_connection_in_tors_format(self):
        """Tor's socks-extensions: "<torS0X>0" and the isolation in the password."""
        seen = self.credentials(self.tor, "connection", "a.example.org", "a.example.org")
        self.assertEqual(len(set(seen)), 2)
        for user, password in seen:
            self.assertEqual(user, "<torS0X>0")
            self.assertGreaterEqual(len(password), 64)

    def test_resolve(self):
        """Tor's RESOLVE: a name that Tor knows an address for (AutomapHostsOnResolve) has it in the
        container too, and one that it has no circuit for is refused."""
        path = self.container(["/usr/bin/dig", "+short", "+tries=1", "+time=30",
                               "hidden.example.test", "A"], policy="resolve")
        address = self.engine.run(path).stdout.strip()
        self.assertRegex(address, r"^10\.(19[2-9]|2[0-9]{2})\.")
        path = self.container(["/usr/bin/dig", "+tries=1", "+time=30", "www.example.org", "A"],
                              policy="resolve")
        self.assertRegex(self.engine.run(path).stdout, "status: (SERVFAIL|NXDOMAIN)")
        self.assertEqual([(one["kind"], one["target"]) for one in self.tor.requests()],
                         [("NEWRESOLVE", "hidden.example.test:0"),
                          ("NEWRESOLVE", "www.example.org:0")])
        self.assertEqual(self.far.packets(), 0)


if __name__ == "__main__":
    case.main()
