"""`oakum run --proxy`: its options, what others see of it, and the policies of examples/ for it."""
import json
import os
import shutil
import signal
import time

from lib import case, env, far_world, network, proxies
from lib.proc import Process, run

_FAR = network.FarSide
_URL = "http://v4.example.test/bytes/64"
_BODY = "0123456789abcdef" * 4
_ADDRESS = "203.0.113.81"
# Connections that go there directly: their last packets may come after the next count has begun.
_BARE, _BARE_ADDRESS = "http://n1.example.test/bytes/64", "203.0.113.101"
_DIRECT = "203.0.113.102"
_SECRETS = f"{proxies.USER}:{proxies.PASSWORD}@"
# A resolver of the program's own, so that nothing of the machine's settings counts.
_WITH_RESOLVER = ('mount --bind "$1" /etc/resolv.conf; mount --bind "$2" /etc/nsswitch.conf; '
                  'shift 2; exec "$@"')
# Talks to itself.
_LOOPBACK = """
import socket
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.create_server((host, 0), family=family) as server:
        with socket.create_connection(server.getsockname()[:2]) as client:
            print(server.accept()[1][0] if client.getpeername()[0] == host else "other")
"""
# Asks twice over one connection, the second time when it is told to. With a timeout the socket does
# not block (settimeout), so that the guard carries what it sends.
_TWICE = """
import http.client, os, sys, time
connection = http.client.HTTPConnection("v4.example.test", timeout=30)
for go in sys.argv[1:]:
    while not os.path.exists(go):
        time.sleep(0.01)
    connection.request("GET", "/bytes/64")
    print(connection.getresponse().read().decode(), connection.sock.fileno(), flush=True)
"""
_CURL = ("curl", "-sS", "--max-time", "30", "--noproxy", "*")


class RunProxy:
    PREFIX = ()  # what makes the command run as somebody else

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.world = far_world.FarWorld(cls.directory)
        cls.addClassCleanup(cls.world.close)
        cls.far = cls.world.far
        # The build folder may be closed to the ordinary user.
        cls.oakum = shutil.copy(env.program("oakum"), cls.directory)
        os.chmod(cls.directory, 0o755)
        cls.etc = [cls.write("resolv.conf", f"nameserver {far_world.DNS}\n"),
                   cls.write("nsswitch.conf", "passwd: files\nhosts: files dns\n")]
        cls.proxy = cls.add(proxies.Microsocks(
            cls.directory, user=proxies.USER, password=proxies.PASSWORD, netns=cls.world.netns,
            host=_FAR.GATEWAY4, port=1080, hosts=cls.world.hosts))
        cls.at = f"{_FAR.GATEWAY4}:1080"
        cls.url = f"socks5h://{_SECRETS}{cls.at}"

    @classmethod
    def add(cls, proxy):
        proxy.start()
        cls.addClassCleanup(proxy.stop)
        return proxy

    @classmethod
    def write(cls, name, text, mode=0o644):
        path = os.path.join(cls.directory, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, mode)
        return path

    def setUp(self):
        self.far.reset()

    def command(self, *command, environment=()):
        return [env.tool("ip"), "netns", "exec", self.far.inner, "unshare", "-m", "--propagation",
                "private", "sh", "-c", _WITH_RESOLVER, "sh", *self.etc, *self.PREFIX,
                "env", *environment, *command]

    def plain(self, *command, **options):
        return run(self.command(*command, **options), check=False, timeout=90)

    def guarded(self, options, *command, **more):
        return self.plain(self.oakum, "run", *options, "--", *command, **more)

    def assertLeaksBare(self):
        """The way is open without Oakum."""
        done = self.plain(*_CURL, _BARE)
        self.assertEqual((done.returncode, done.stdout), (0, _BODY), done)
        self.assertGreater(self.far.packets(far_world.DNS, "udp", 53), 0)
        self.assertGreater(self.far.packets(_BARE_ADDRESS, "tcp", 80), 2)
        self.far.reset()

    def leaked(self):
        return self.world.leaked((_FAR.GATEWAY4, 1080), (_BARE_ADDRESS, 80), (_DIRECT, 80))

    def assertCarried(self, done):
        self.assertEqual((done.returncode, done.stdout), (0, _BODY), done)
        self.assertEqual(self.leaked(), 0)

    def test_names_and_connections(self):
        self.assertLeaksBare()
        for environment, options in ((), ("--proxy", self.url)), (("OAKUM_PROXY=" + self.url,), ()):
            with self.subTest(options=options):
                done = self.guarded((*options, "--fail-on-leak"), *_CURL, _URL,
                                    environment=environment)
                self.assertCarried(done)
                self.assertEqual(done.stderr, "")
        self.proxy.saw("connected to v4.example.test:80\n")
        file = self.write("url", self.url + "\n")
        self.assertCarried(self.guarded(("--proxy", "@" + file), *_CURL, _URL))

    def test_what_is_carried_outlives_the_guard(self):
        go = os.path.join(self.directory, self.id() + ".go")
        process = Process(
            self.command(self.oakum, "run", "--proxy", self.url, "--", "/usr/bin/python3", "-c",
                         _TWICE, "/", go), os.path.join(self.directory, self.id() + ".log"))
        self.addCleanup(process.stop)
        process.wait_for(lambda: _BODY in process.output(), 30, "the first answer")
        time.sleep(0.5)  # it is kept when it has lived for a while
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
            os.kill(int(children.read()), signal.SIGKILL)
        process.wait_for(lambda: "another one goes on" in process.output(), 30, "the successor")
        self.write(os.path.basename(go), "")
        self.assertEqual(process.wait(30), 0, process.output())
        answers = [line for line in process.output().splitlines() if _BODY in line]
        self.assertEqual(len(set(answers)), 1, "the same connection")
        self.assertEqual(len(answers), 2)
        self.assertEqual(self.leaked(), 0)

    def test_loopback_and_exceptions(self):
        """Loopback stays the program's own, --allow goes around the proxy and --deny nowhere."""
        options = ("--proxy", self.url, "--allow", _DIRECT, "--deny", "203.0.113.82")
        done = self.guarded(options, *_CURL, f"http://{_DIRECT}/bytes/64")
        self.assertEqual(done.stdout, _BODY, done)
        self.assertGreater(self.far.packets(_DIRECT, "tcp", 80), 2)
        done = self.guarded(options, *_CURL, "http://203.0.113.82/bytes/64")
        self.assertEqual(done.returncode, 7, done)
        self.assertEqual(self.far.packets("203.0.113.82"), 0)
        done = self.guarded(options, "/usr/bin/python3", "-c", _LOOPBACK)
        self.assertEqual((done.returncode, done.stdout), (0, "127.0.0.1\n::1\n"), done)

    def test_nobody_sees_the_password(self):
        """Neither in the process list, nor in what the program or its environment shows."""
        for number, (environment, options) in enumerate(
                (((), ("--proxy", self.url)), ((), ("--proxy=" + self.url,)),
                 (("OAKUM_PROXY=" + self.url,), ()))):
            with self.subTest(options=options):
                ready = os.path.join("/tmp", f"oakum-ready-{os.getpid()}-{number}")
                self.addCleanup(lambda path=ready: os.path.exists(path) and os.unlink(path))
                process = Process(
                    self.command(self.oakum, "run", *options, "--", "sh", "-c",
                                 f"env; touch {ready}; exec sleep 60", environment=environment),
                    os.path.join(self.directory, f"shown-{number}-{self.id()}"))
                self.addCleanup(process.stop)
                process.wait_for(lambda path=ready: os.path.exists(path), 20, "the program runs")
                self.assertNotIn(proxies.PASSWORD, process.output())
                self.assertNotIn("OAKUM_PROXY", process.output())
                for name in ("cmdline", "environ"):
                    with open(f"/proc/{process.pid}/{name}", "rb") as text:
                        shown = text.read()
                    self.assertNotIn(proxies.PASSWORD.encode(), shown)
                    self.assertIn(b"run" if name == "cmdline" else b"PATH=", shown)
                process.send_signal(signal.SIGTERM)
                process.wait()

    def test_what_the_proxy_refuses(self):
        """The wrong password: an errno for the program, and the reason for its user."""
        done = self.guarded(("--proxy", f"socks5h://{proxies.USER}:other-4711@{self.at}",
                             "--events", "-"), *_CURL, _URL)
        self.assertNotEqual(done.returncode, 0, done)
        self.assertNotIn("other-4711", done.stdout + done.stderr)
        failures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        self.assertTrue(any(event["event"]["outcome"] == "failure" for event in failures), failures)
        self.assertEqual(self.leaked(), 0)


class RunProxyAsRoot(RunProxy, case.Case):
    def test_examples(self):
        """The policies of examples/ do what they say."""
        examples = os.path.join(env.SOURCE_DIR, "examples", "policies")
        self.assertLeaksBare()
        tor = proxies.Tor(self.directory, netns=self.far.netns, port=9050).start()
        self.addCleanup(tor.stop)
        done = self.guarded(("--policy", os.path.join(examples, "redirect.jsonc")), *_CURL, _URL)
        self.assertEqual(done.returncode, 7, done)  # this Tor has no network
        # For the addresses of both families that stand for the name.
        requests = tor.requests()
        self.assertEqual({one["target"] for one in requests}, {"v4.example.test:80"})
        self.assertTrue(all("SOCKS_USERNAME" in one for one in requests), requests)
        self.assertEqual(self.far.packets(far_world.DNS), 0)
        self.assertEqual(self.far.packets(_ADDRESS), 0)
        # Names of the far side are not among those that the other example allows.
        self.far.reset()
        done = self.guarded(("--policy", os.path.join(examples, "names.jsonc")), *_CURL, _URL)
        self.assertEqual(done.returncode, 7, done)
        self.assertGreater(self.far.packets(far_world.DNS, "udp", 53), 0)
        self.assertEqual(self.far.packets(_ADDRESS), 0)
        with open(os.path.join(examples, "names.jsonc"), encoding="utf-8") as text:
            ours = self.write("names.jsonc", text.read().replace("*.debian.org", "*.example.test"))
        done = self.guarded(("--policy", ours), *_CURL, _URL)
        self.assertEqual((done.returncode, done.stdout), (0, _BODY), done)
        self.assertGreater(self.far.packets(_ADDRESS, "tcp", 80), 2)


class RunProxyAsOrdinaryUser(RunProxy, case.Case):
    PREFIX = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


if __name__ == "__main__":
    case.main()
