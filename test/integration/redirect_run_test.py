"""`oakum run --proxy URL -- PROGRAM`: an ordinary program goes through a proxy, as root and as an
ordinary user, who needs no privilege for it."""
import os
import shutil

from lib import case, env, far_world, network, proc, proxies
from lib.proxies import PASSWORD, USER
from lib.workload_case import WORKLOADS

URL = "http://www.example.test/bytes/1000"
PORT = 1080
# What Python does with a socket that blocks and one that does not.
_PYTHON = f"""
import asyncio, socket, urllib.request
print(len(urllib.request.urlopen("{URL}", timeout=30).read()))
async def main():
    reader, writer = await asyncio.open_connection("n3.example.test", 80)
    writer.write(b"GET /bytes/10 HTTP/1.0\\r\\n\\r\\n")
    print((await reader.read()).rpartition(b"\\r\\n\\r\\n")[2].decode())
    print(writer.get_extra_info("peername")[1])
asyncio.run(main())
with socket.create_connection(("v6.example.test", 7), timeout=30) as echo:
    echo.sendall(b"hello")
    print(echo.recv(5).decode())
"""


class Run:
    PREFIX = ()  # what makes the command run as somebody else

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("curl", "go", "microsocks"):
            env.tool(name)
        cls.world = far_world.FarWorld(cls.directory)
        cls.addClassCleanup(cls.world.close)
        cls.far = cls.world.far
        cls.world.add_ssh()
        # In the container's network, on the loopback of the program; its own way out is the proxy's.
        cls.proxy = proxies.Microsocks(cls.directory, netns=cls.world.netns,
                                       host=network.FarSide.GATEWAY4, port=PORT,
                                       hosts=cls.world.hosts)
        cls.secret = proxies.Microsocks(cls.directory, netns=cls.world.netns,
                                        host=network.FarSide.GATEWAY4, port=PORT + 1,
                                        hosts=cls.world.hosts, user=USER, password=PASSWORD)
        for one in (cls.proxy, cls.secret):
            one.start()
            cls.addClassCleanup(one.stop)
        cls.oakum = shutil.copy(env.program("oakum"), cls.directory)
        resolv = os.path.join(cls.directory, "resolv.conf")
        with open(resolv, "w", encoding="ascii") as out:
            out.write(f"nameserver {far_world.DNS}\noptions timeout:20\n")
        # A resolv.conf of its own, then the network, then the user.
        cls.inside = [*proxies.in_netns(cls.far.netns), env.tool("unshare"), "-m", "--propagation",
                      "private", "sh", "-c",
                      f'mount --bind {resolv} /etc/resolv.conf && exec "$@"', "sh", *cls.PREFIX]
        go = os.path.join(cls.directory, "go-client")
        proc.run([env.tool("go"), "build", "-o", go, os.path.join(WORKLOADS, "redirect/client.go")],
                 timeout=240, environment=env.clean_environment(
                     CGO_ENABLED="0", GO111MODULE="off", GOTOOLCHAIN="local", GOPROXY="off",
                     GOCACHE=os.path.join(env.TEST_BIN_DIR, "go-cache")))
        cls.programs = {
            "curl": [env.tool("curl"), "-sS", "--fail", "--max-time", "30", "--cacert",
                     cls.world.shared + "/ca.pem", URL, URL.replace("http:", "https:")],
            "python": ["/usr/bin/python3", "-c", _PYTHON],
            "go": ["env", f"SSL_CERT_FILE={cls.world.shared}/ca.pem", go],
        }
        os.chmod(cls.world.directory, 0o755)
        os.chmod(cls.world.shared, 0o755)
        os.chmod(cls.world.shared + "/ca.pem", 0o644)

    def setUp(self):
        self.far.reset()

    def run_inside(self, *command):
        return proc.run([*self.inside, *command], check=False, timeout=100)

    def check(self, name, proxy, url):
        program = self.programs[name]
        bare = self.run_inside(*program)
        self.assertEqual(bare.returncode, 0, bare)
        self.assertGreater(self.far.packets("203.0.113.80", "tcp", 80), 0)
        self.assertGreater(self.far.packets(far_world.DNS, "udp", 53), 0)
        self.far.reset()
        done = self.run_inside(self.oakum, "run", "--proxy", url, "--", *program)
        self.assertEqual((done.returncode, done.stdout), (0, bare.stdout), done)
        self.assertEqual(self.world.leaked((proxy.host, proxy.port)), 0)
        self.assertGreater(self.far.packets(proxy.host, "tcp", proxy.port), 0)
        proxy.saw("connected to www.example.test:80\n")

    def test_curl(self):
        self.check("curl", self.proxy, f"socks5h://{self.proxy.host}:{PORT}")

    def test_python(self):
        self.check("python", self.proxy, f"socks5h://{self.proxy.host}:{PORT}")

    def test_go(self):
        self.check("go", self.proxy, f"socks5h://{self.proxy.host}:{PORT}")

    def test_with_a_password(self):
        self.check("python", self.secret, f"socks5h://{USER}:{PASSWORD}@{self.proxy.host}:{PORT + 1}")

    def test_a_proxy_that_is_down(self):
        done = self.run_inside(self.oakum, "run", "--proxy",
                               f"socks5h://{USER}:{PASSWORD}@{self.proxy.host}:1", "--",
                               env.tool("curl"), "-sS", "--max-time", "30", URL)
        self.assertEqual(done.returncode, 7, done)  # CURLE_COULDNT_CONNECT
        self.assertNotIn(PASSWORD, done.stderr)
        self.assertEqual(self.world.leaked((self.proxy.host, 1)), 0)


class RunAsRoot(Run, case.Case):
    pass


class RunAsOrdinaryUser(Run, case.Case):
    PREFIX = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--inh-caps=-all", "--bounding-set=-all")


if __name__ == "__main__":
    case.main()
