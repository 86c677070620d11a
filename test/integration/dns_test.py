"""Real resolvers in containers: what they are told under `"dns": "proxy"`, that no query gets out, and
what names lead to under `"dns": "allow"`. Each program first asks without Oakum: then its question
arrives on the far side, and is answered there."""
import ipaddress
import json
import os
import re

from lib import agent, bundle, case, env, host_rootfs, network, proc, runtime

WORKLOADS = os.path.join(env.SOURCE_DIR, "test/integration/workloads/dns")
NAME = "www.example.com"
SERVER = network.FarSide.GATEWAY4  # of the containers' resolv.conf
REAL = {network.FarSide.GOOD4, network.FarSide.GOOD6}
LIAR = network.FarSide.BAD4
POLICY = {
    "version": 1,
    # Nobody listens there: names are answered without the proxy.
    "proxies": {"none": {"url": "socks5h://127.0.0.1:1"}},
    "policies": {
        "proxy": {"mode": "enforce", "proxy": "none", "outgoing": {"default": "redirect"},
                  "dns": "proxy"},
        "allow": {"mode": "enforce", "dns": "allow",
                  "outgoing": {"default": "deny", "allow": ["*.example.com:80"]}},
        # Whoever has the server's address may answer.
        "answers": {"mode": "enforce", "dns": "allow",
                    "outgoing": {"default": "deny", "allow": ["*.example.com:80", SERVER]}},
        "deny": {"mode": "enforce", "outgoing": {"default": "allow"}, "dns": "deny"},
    },
    "containers": [{"match": {"annotation": {"io.oakum.policy": "*"}},
                    "policy": "$io.oakum.policy"}],
}
RESOLV_CONF = {
    "plain": f"nameserver {SERVER}\n",
    "kubernetes": (f"nameserver {SERVER}\n"
                   "search ns.svc.cluster.local svc.cluster.local cluster.local\n"
                   "options ndots:5\n"),
}
# Connects to each address after it has looked up the name, at whatever server; prints what came.
CONNECT = """
import errno, socket, subprocess, sys
for step in sys.argv[1:]:
    if step.startswith('@'):
        subprocess.run(['dig', '+short', step, 'A', '%s'], check=True, stdout=subprocess.DEVNULL)
    elif step.startswith('?'):
        socket.getaddrinfo(step[1:], 80)
    else:
        host, port = step.rsplit(':', 1)
        with socket.socket() as made:
            made.settimeout(20)
            print(errno.errorcode.get(made.connect_ex((host, int(port))), 'OK'), flush=True)
""" % NAME


# Looks up a name, and connects when a file is there.
REMEMBER = """
import errno, os, socket, sys, time
address = socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET)[0][4]
print('asked', flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
with socket.socket() as made:
    made.settimeout(20)
    print(errno.errorcode.get(made.connect_ex(address), 'OK'), flush=True)
"""


def addresses(text, *, but=()):
    """The IP addresses that are words of a text, as a set of strings."""
    found = set()
    for word in re.split(r"[\s,]+", text):
        try:
            found.add(str(ipaddress.ip_address(word)))
        except ValueError:
            continue
    return found - set(but)


class Dns(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory, ports=(80, 443))
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = host_rootfs.make(os.path.join(cls.directory, "rootfs"))
        with open(cls.rootfs + "/etc/nsswitch.conf", "w", encoding="ascii") as out:
            out.write("hosts: files dns\n")
        cls.data = os.path.join(cls.directory, "data")
        os.makedirs(cls.data)
        cls.serve(cls.far.far, SERVER)
        cls.engines = {}
        for name in runtime.Runtime.NAMES:
            guard = agent.Agent(cls.directory, POLICY, runtime=name).start()
            cls.addClassCleanup(guard.stop)
            engine = runtime.Runtime(name, cls.directory, config=guard.config)
            cls.addClassCleanup(engine.close)
            cls.engines[name] = (engine, guard)

    @classmethod
    def serve(cls, netns, honest):
        """A name server on every address of a network namespace."""
        ready = os.path.join(cls.directory, f"{netns}.dns-ready")
        server = proc.Process(
            [env.tool("ip"), "netns", "exec", netns, "/usr/bin/python3",
             os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib/dns_server.py"), ready,
             honest, network.FarSide.GOOD4, network.FarSide.GOOD6],
            os.path.join(cls.directory, f"{netns}.dns.log"))
        cls.addClassCleanup(server.stop)
        server.wait_for(lambda: os.path.exists(ready), 20, "the name server listens")
        return server

    def bundle(self, args, policy=None, resolv_conf="plain", **environment):
        """A container with a program of the machine's."""
        with open(self.rootfs + "/etc/resolv.conf", "w", encoding="ascii") as out:
            out.write(RESOLV_CONF[resolv_conf])
        config = bundle.make_config(
            self.rootfs, args, netns=self.far.netns, capabilities=host_rootfs.CAPABILITIES,
            annotations={"io.oakum.policy": policy} if policy else None)
        config["process"]["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LANG=C.UTF-8",
                                    "PYTHONDONTWRITEBYTECODE=1",
                                    *(f"{name}={value}" for name, value in environment.items())]
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}]
        config["root"]["readonly"] = True
        config["mounts"] += host_rootfs.mounts(self.rootfs, {"/dns": WORKLOADS, "/data": self.data})
        return bundle.make_bundle(os.path.join(self.directory, runtime.Runtime.new_id()), config)

    def run_program(self, *args, policy=None, engine="runc", resolv_conf="plain", check=True,
                    **environment):
        """Runs it; without a policy unguarded. A Result."""
        path = self.bundle(args, policy, resolv_conf, **environment)
        return self.engines[engine][0].run(path, guarded=policy is not None, check=check,
                                           timeout=120)

    def test_names_outlive_the_agent(self):
        """What a name was told for before the agent was killed still stands for it afterwards."""
        guard = agent.Agent(self.directory, POLICY).start()
        self.addCleanup(guard.stop)
        engine = runtime.Runtime("runc", self.directory, config=guard.config)
        self.addCleanup(engine.close)
        # Without the names: EHOSTUNREACH for an address that stands for none, and EACCES.
        for policy, wanted in (("proxy", "ECONNREFUSED"), ("allow", "OK")):
            path = self.bundle(["/usr/bin/python3", "-c", REMEMBER, NAME, f"/data/go-{policy}"], policy)
            _, process = engine.start(path, path + ".log")
            self.addCleanup(process.stop)
            process.wait_for(lambda: "asked" in process.output(), 20, "it has asked")
            for _ in range(2):
                guard.kill()
                guard.start()
            with open(os.path.join(self.data, f"go-{policy}"), "w", encoding="ascii"):
                pass
            process.wait(30)
            self.assertEqual(process.output().split()[1:], [wanted], guard.log())

    def synthetic(self):
        """The two addresses that stand for NAME: the same in each container that is new."""
        found = addresses(self.run_program("/usr/bin/dig", "+short", NAME, "A", NAME, "AAAA",
                                           policy="proxy").stdout)
        v4, v6 = sorted(found, key=lambda text: ":" in text)
        self.assertIn(ipaddress.ip_address(v4), ipaddress.ip_network("198.18.0.0/15"))
        self.assertIn(ipaddress.ip_address(v6), ipaddress.ip_network("fd6f:616b:756d::/64"))
        return {v4, v6}

    def check(self, *args, families=2, engines=("runc",), **environment):
        """The program learns the real addresses when it is bare, and those that stand for the name
        when it is guarded, and then nothing leaves."""
        self.far.reset()
        bare = self.run_program(*args, **environment)
        self.assertLessEqual(addresses(bare.stdout, but=[SERVER]), REAL, bare)
        self.assertEqual(len(addresses(bare.stdout, but=[SERVER])), families, bare)
        self.assertGreaterEqual(self.far.packets(SERVER, port=53), 1)
        wanted = self.synthetic()
        for engine in engines:
            with self.subTest(engine=engine):
                self.far.reset()
                guarded = self.run_program(*args, policy="proxy", engine=engine, **environment)
                found = addresses(guarded.stdout, but=[SERVER])
                self.assertLessEqual(found, wanted, guarded)
                self.assertEqual(len(found), families, guarded)
                self.assertEqual(self.far.packets(), 0)

    def test_glibc(self):
        self.check("/usr/bin/getent", "ahosts", NAME, engines=("runc", "crun"))

    def test_glibc_with_its_options(self):
        for options in ("edns0", "single-request", "single-request-reopen", "use-vc",
                        "edns0 trust-ad"):
            with self.subTest(options=options):
                self.check("/usr/bin/getent", "ahosts", NAME, RES_OPTIONS=options)

    def test_musl(self):
        program = os.path.join(self.data, "musl-names")
        proc.run([env.tool("musl-gcc"), "-static", "-O1", "-o", program,
                  os.path.join(WORKLOADS, "names.c")])
        self.check("/data/musl-names", NAME, engines=("runc", "crun"))

    def test_busybox(self):
        self.check(env.tool("busybox"), "nslookup", NAME)

    def test_go(self):
        output = os.path.join(self.data, "go-names")
        proc.run([env.tool("go"), "build", "-o", output, os.path.join(WORKLOADS, "main.go")],
                 timeout=240, environment=env.clean_environment(
                     CGO_ENABLED="0", GO111MODULE="off", GOTOOLCHAIN="local", GOPROXY="off",
                     GOCACHE=os.path.join(env.TEST_BIN_DIR, "go-cache")))
        self.check("/data/go-names", NAME, engines=("runc", "crun"))

    def test_node(self):
        for way in ("resolve", "lookup"):
            with self.subTest(way=way):
                self.check(env.tool("node"), "/dns/names.js", way, NAME)

    def test_java(self):
        compiler = os.path.realpath(env.tool("javac"))
        os.symlink(os.path.dirname(os.path.dirname(compiler)), os.path.join(self.data, "jvm"))
        proc.run([compiler, "-d", os.path.join(self.data, "java"),
                  os.path.join(WORKLOADS, "Names.java")])
        for way in ("jvm", "jndi"):
            with self.subTest(way=way):
                self.check("/data/jvm/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                           "-Xmx128m", "-cp", "/data/java", "Names", way, NAME)

    def test_dig(self):
        for options in ((), ("+tcp",), ("+noedns",), ("+bufsize=512",), ("+cookie",)):
            with self.subTest(options=options):
                self.check(env.tool("dig"), "+short", *options, NAME, "A", NAME, "AAAA")

    def test_each_call_to_any_server(self):
        """Unconnected sockets see the answer come from whom they asked."""
        for server in (SERVER, LIAR):
            with self.subTest(server=server):
                calls = ("/usr/bin/python3", "/dns/calls.py", server, NAME)
                self.far.reset()
                bare = self.run_program(*calls).stdout
                self.assertEqual(bare.count(LIAR if server == LIAR else network.FarSide.GOOD4), 6)
                self.assertGreaterEqual(self.far.packets(server, port=53), 6)
                wanted = self.synthetic()
                for engine in runtime.Runtime.NAMES:
                    self.far.reset()
                    guarded = self.run_program(*calls, policy="proxy", engine=engine).stdout
                    self.assertEqual(len(guarded.splitlines()), 6, guarded)
                    self.assertLessEqual(addresses(guarded), wanted)
                    self.assertEqual(self.far.packets(), 0)

    def test_dockers_resolver(self):
        """A server on loopback of the container's network, which asks others from the host."""
        self.serve(self.far.inner, "127.0.0.11")
        calls = ("/usr/bin/python3", "/dns/calls.py", "127.0.0.11", NAME)
        bare = self.run_program(*calls).stdout
        self.assertEqual(bare.count(network.FarSide.GOOD4), 6, bare)
        guarded = self.run_program(*calls, policy="proxy").stdout
        self.assertEqual(len(guarded.splitlines()), 6, guarded)
        self.assertLessEqual(addresses(guarded), self.synthetic())

    def test_addresses_lead_back_to_names(self):
        """In one container, since a pool is one container's."""
        script = (f"a=$(dig +short {NAME} A); getent hosts $a; dig +short -x $a; "
                  f"getent hosts $(dig +short {NAME} AAAA)")
        lines = self.run_program("/bin/sh", "-c", script, policy="proxy").stdout.split("\n")
        self.assertEqual([line.split()[-1].rstrip(".") for line in lines if line], [NAME] * 3)

    def test_a_search_list_ends_at_the_name(self):
        wanted = self.synthetic()
        for command in (("/usr/bin/getent", "ahosts", NAME), (env.tool("busybox"), "nslookup", NAME)):
            with self.subTest(command=command):
                found = self.run_program(*command, policy="proxy", resolv_conf="kubernetes")
                self.assertEqual(addresses(found.stdout, but=[SERVER]), wanted, found)

    def test_what_does_not_exist(self):
        result = self.run_program(
            "/bin/sh", "-c",
            "for name in x.invalid 10.1.2.3.4 use-application-dns.net; do "
            "dig $name A | grep -o 'status: [A-Z]*'; done; dig +short localhost A",
            policy="proxy")
        self.assertEqual(result.stdout.split("\n")[:4],
                         ["status: NXDOMAIN"] * 3 + ["127.0.0.1"], result)

    def test_deny(self):
        self.far.reset()
        result = self.run_program("/usr/bin/getent", "ahosts", NAME, policy="deny", check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(self.far.packets(), 0)

    def connect(self, *steps, **options):
        return self.run_program("/usr/bin/python3", "-c", CONNECT, *steps, **options).stdout.split()

    def test_rules_for_names_follow_the_answers(self):
        good, bad = network.FarSide.GOOD4, LIAR
        steps = (f"{good}:80", f"?{NAME}", f"{good}:80", f"{good}:443", f"{bad}:80")
        self.assertEqual(self.connect(*steps), ["OK"] * 4)
        for engine in runtime.Runtime.NAMES:
            with self.subTest(engine=engine):
                guard = self.engines[engine][1]
                seen = len(guard.events(oakum__verdict="deny"))
                self.far.reset()
                self.assertEqual(self.connect(*steps, policy="allow", engine=engine),
                                 ["EACCES", "OK", "EACCES", "EACCES"])
                self.assertEqual(self.far.packets(bad), 0)
                self.assertEqual(self.far.packets(good, port=443), 0)
                events = guard.wait_events(seen + 3, oakum__verdict="deny")[seen:]
                self.assertEqual([agent.field(event, "destination.domain") for event in events],
                                 [None, NAME, None], json.dumps(events, indent=1))

    def test_a_server_that_lies_binds_nothing(self):
        steps = (f"@{LIAR}", f"{LIAR}:80")
        self.assertEqual(self.connect(*steps), ["OK"])
        self.far.reset()
        self.assertEqual(self.connect(*steps, policy="allow"), ["EACCES"])
        self.assertEqual(self.far.packets(LIAR, "tcp"), 0)
        self.assertGreaterEqual(self.far.packets(LIAR, "udp", 53), 1)

    def test_a_network_of_its_own_binds_nothing(self):
        """unshare(2) makes one in which the container is the server that it trusts."""
        program = ("/usr/bin/python3", "/dns/hijack.py", SERVER, NAME, LIAR)
        self.assertEqual(self.run_program(*program).stdout.split(), [LIAR, "OK"])
        self.far.reset()
        self.assertEqual(self.run_program(*program, policy="answers").stdout.split(),
                         [LIAR, "EACCES"])
        self.assertEqual(self.far.packets(), 0)


if __name__ == "__main__":
    case.main()
