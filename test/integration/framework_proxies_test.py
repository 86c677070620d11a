"""The far side with names and the proxies that tests use, with nothing guarded: each is reached by a
client that speaks to it, resolves the name itself, and says in its log what it was asked for."""
from lib import case, env, far_world, proxies
from lib.proxies import PASSWORD, USER

URL = "http://www.example.test/bytes/10"


class Proxies(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.curl_path = env.tool("curl")
        cls.world = far_world.FarWorld(cls.directory)
        cls.addClassCleanup(cls.world.close)
        cls.far = cls.world.far
        cls.host = cls.far.GATEWAY4

    def setUp(self):
        self.far.reset()

    def add(self, kind, *args, **options):
        proxy = kind(self.directory, *args, **options).start()
        self.addCleanup(proxy.stop)
        return proxy

    def options(self, port):
        return {"netns": self.world.netns, "host": self.host, "port": port,
                "hosts": self.world.hosts}

    def curl(self, *options):
        return self.far.exec_inner(self.curl_path, "-sS", "--max-time", "20", "--proxytunnel",
                                   *options, check=False)

    def check(self, proxy, url, line, *options, port=None):
        done = self.curl("--proxy", url, *options, URL)
        self.assertEqual(done.stdout, "0123456789", done)
        self.assertEqual(self.world.leaked((self.host, port or proxy.port)), 0)
        proxy.saw(line)

    def test_microsocks(self):
        proxy = self.add(proxies.Microsocks, user=USER, password=PASSWORD, **self.options(1080))
        self.check(proxy, f"socks5h://{USER}:{PASSWORD}@{self.host}:1080",
                   "connected to www.example.test:80\n")
        self.assertNotEqual(self.curl("--proxy", f"socks5h://{self.host}:1080", URL).returncode, 0)

    def test_dante(self):
        proxy = self.add(proxies.Dante, external="far0", debug=True, **self.options(1081))
        self.check(proxy, f"socks5h://{USER}:{PASSWORD}@{self.host}:1081",
                   "address: www.example.test.80")
        self.assertIn("auth: username", proxy.log())
        wrong = self.curl("--proxy", f"socks5h://{USER}:other@{self.host}:1081", URL)
        self.assertNotEqual(wrong.returncode, 0)

    def test_tinyproxy_and_tls(self):
        proxy = self.add(proxies.Tinyproxy, user=USER, password=PASSWORD, **self.options(8888))
        credentials = ("--proxy-user", f"{USER}:{PASSWORD}")
        self.check(proxy, f"http://{self.host}:8888", "CONNECT www.example.test:80 HTTP/1.1",
                   *credentials)
        self.add(proxies.Stunnel, proxy, *self.world.authority.issue(self.host), host=self.host,
                 port=8443)
        self.far.reset()
        self.check(proxy, f"https://{self.host}:8443", "CONNECT www.example.test:80 HTTP/1.1",
                   *credentials, "--proxy-cacert", self.world.authority.path, port=8443)

    def test_tor(self):
        """Tor has no network: it is asked, and says so."""
        proxy = self.add(proxies.Tor, **self.options(9050))
        done = self.curl("--proxy", f"socks5h://someone:secret@{self.host}:9050", URL)
        self.assertNotEqual(done.returncode, 0)
        request = proxy.requests()[0]
        self.assertEqual((request["target"], request["SOCKS_USERNAME"], request["SOCKS_PASSWORD"]),
                         ("www.example.test:80", "someone", "secret"))

    def test_names_are_known_on_the_far_side_alone(self):
        done = self.far.exec_inner(env.tool("dig"), f"@{far_world.DNS}", "+short", "+tries=1",
                                   "v6.example.test", "AAAA")
        self.assertEqual(done.stdout.strip(), "2001:db8::81")
        self.assertGreater(self.far.packets(far_world.DNS, "udp", 53), 0)


if __name__ == "__main__":
    case.main()
