"""Proxies that are down, slow, that close early or answer nonsense: a program gets a fitting errno in
bounded time, blocking or not, the event says which proxy failed and how, and credentials are in no
log, event or list of processes."""
import base64
import os
import time

from lib import bundle, case, network, proc, proxies, redirect_case, rootfs
from lib.agent import Agent
from lib.redirect_case import ON_THE_HOST, REACHABLE, redirect
from lib.runtime import Runtime, parse_probe

_SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib/bad_proxy.py")
FIRST_PORT = 2000
USER, PASSWORD = "somebody", "swordfish-8472"
TIMEOUT = 2  # seconds, of the policy
# Behaviour -> errno of the program, and a word of what the event says.
SOCKS = {
    "closes": ("ECONNRESET", "closed"),
    "resets": ("ECONNRESET", ""),
    "closes-after-request": ("ECONNRESET", "closed"),
    "closes-in-reply": ("ECONNRESET", "closed"),
    "garbage": ("EPROTO", "SOCKS5"),
    "wrong-method": ("EPROTO", "method"),
    "method-refused": ("EACCES", "refused"),
    "credentials-refused": ("EACCES", "refused the credentials"),
    "reply-1": ("ECONNREFUSED", "general failure"),
    "reply-2": ("EACCES", "allow"),
    "reply-3": ("ENETUNREACH", "network"),
    "reply-4": ("EHOSTUNREACH", "host"),
    "reply-5": ("ECONNREFUSED", "refused"),
    "reply-6": ("ETIMEDOUT", "time"),
    "reply-7": ("ENETUNREACH", "command"),
    "reply-8": ("ENETUNREACH", "address"),
    "silent": ("ETIMEDOUT", "did not answer"),
    "endless": ("ETIMEDOUT", "did not answer"),
}
HTTP = {
    "http-closes": ("ECONNRESET", "closed"),
    "http-garbage": ("EPROTO", "HTTP"),
    "http-endless-head": ("EPROTO", "head"),
    "http-403": ("EACCES", "allow"),
    "http-407": ("EACCES", "refused the credentials"),
    "http-502": ("EHOSTUNREACH", "reach"),
    "http-504": ("ETIMEDOUT", "time"),
}
# What a pending connect can be told over IPv4 in the place of what nothing says (icmp(7)).
PENDING = {"EACCES": "EHOSTUNREACH", "ETIMEDOUT": "EHOSTUNREACH"}
BEHAVIOURS = list(SOCKS) + list(HTTP)
_TARGET = f"{network.FarSide.BAD4} 80"


class BadProxies(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.netns = f"/run/netns/{cls.far.far}"
        for host in (REACHABLE, ON_THE_HOST):
            ready = os.path.join(cls.directory, f"ready-{host}")
            server = proc.Process([*proxies.in_netns(cls.netns), "/usr/bin/python3", _SERVER, ready,
                                   host, FIRST_PORT, *BEHAVIOURS], ready + ".log")
            cls.addClassCleanup(server.stop)
            server.wait_for(lambda one=ready: os.path.exists(one), 30, "the bad proxies listen")
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))
        document = redirect_case.policy_file(*cls.policies())
        cls.agent = Agent(cls.directory, document, prefix=proxies.in_netns(cls.netns)).start()
        cls.addClassCleanup(cls.agent.stop)
        cls.runc = Runtime("runc", cls.directory, config=cls.agent.config)
        cls.addClassCleanup(cls.runc.close)

    @classmethod
    def policies(cls):
        """Each behaviour once by the container's own socket (no secrets, in its reach) and once by
        the agent's, with a password."""
        urls, policies = {}, {}
        for number, name in enumerate(BEHAVIOURS):
            scheme = "socks5h" if name in SOCKS else "http"
            port = FIRST_PORT + number
            for way, url in (("own", f"{REACHABLE}:{port}"),
                             ("host", f"{USER}:{PASSWORD}@{ON_THE_HOST}:{port}")):
                urls[f"{way}-{name}"] = {"url": f"{scheme}://{url}", "timeout": TIMEOUT}
        urls["down"] = f"socks5h://{ON_THE_HOST}:1"
        urls["down-own"] = f"socks5h://{REACHABLE}:1"
        urls["no-socket"] = "socks5h+unix:///no/such/socket"
        urls["not-tls"] = {"url": f"https://{USER}:{PASSWORD}@{ON_THE_HOST}:"
                                  f"{FIRST_PORT + BEHAVIOURS.index('garbage')}", "timeout": TIMEOUT}
        for name in urls:
            policies[name] = redirect(name)
        return urls, policies

    def steps(self, policy, *steps, network_too=True):
        config = bundle.make_config(
            self.rootfs, ["/bin/probe", *steps], netns=self.far.netns if network_too else None,
            annotations={"io.oakum.policy": policy})
        path = bundle.make_bundle(os.path.join(self.directory, Runtime.new_id()), config)
        start = time.monotonic()
        done = self.runc.run(path, timeout=60)
        return parse_probe(done.stdout), time.monotonic() - start

    def check(self, policy, errno_name, *words, target=_TARGET, network_too=True):
        """The same failure for a blocking socket and for one that does not block."""
        self.far.reset()
        steps, seconds = self.steps(
            policy, "socket 0 inet stream", f"connect 0 {target}",
            "socket 1 inet stream nonblock", f"connect 1 {target}", "poll 1 out 30000",
            "sockerr 1", network_too=network_too)
        blocking, started, polled, failed = steps[1], steps[3], steps[4], steps[5]
        self.assertFailed(blocking, errno_name)
        if started["errno"] != errno_name:  # or at once, where the agent knows at once
            self.assertFailed(started, "EINPROGRESS")
            self.assertLess(started["ms"], 500, started)
            self.assertEqual(polled["ret"], 1, polled)
            self.assertEqual(failed["so_error"], PENDING.get(errno_name, errno_name), failed)
        self.assertLess(seconds, 2 * TIMEOUT + 10)
        self.assertEqual(self.far.packets(network.FarSide.BAD4), 0)
        events = self.agent.wait_events(2, oakum__policy=policy, event__outcome="failure")
        for event in events:
            for word in words:
                self.assertIn(word, str(event))
            self.assertFalse(event["oakum"]["leak"])

    def assertNoSecrets(self):
        secrets = (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        shown = self.agent.log()
        with open(self.agent.events_path, encoding="utf-8") as events:
            shown += events.read()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as line:
                        shown += line.read()
                except OSError:
                    pass  # ended
        for secret in secrets:
            self.assertNotIn(secret, shown)

    def run_all(self, behaviours):
        for name, (errno_name, word) in behaviours.items():
            port = FIRST_PORT + BEHAVIOURS.index(name)
            for way, host in (("own", REACHABLE), ("host", ON_THE_HOST)):
                with self.subTest(behaviour=name, way=way):
                    if name == "credentials-refused" and way == "own":
                        # A method that was not offered where there is no password.
                        self.check(f"{way}-{name}", "EPROTO", f"{host}:{port}")
                    else:
                        self.check(f"{way}-{name}", errno_name, f"{host}:{port}", word)
        self.assertNoSecrets()

    def test_socks(self):
        self.run_all(SOCKS)

    def test_http(self):
        self.run_all(HTTP)

    def test_down(self):
        for policy, where in (("down", f"{ON_THE_HOST}:1"), ("down-own", f"{REACHABLE}:1")):
            with self.subTest(policy=policy):
                self.check(policy, "ECONNREFUSED", where)
        self.check("no-socket", "ECONNREFUSED", "/no/such/socket")

    def test_no_network(self):
        """A proxy that fails for a container that has nothing but loopback."""
        self.check("down", "ECONNREFUSED", network_too=False)
        self.check("host-reply-4", "EHOSTUNREACH", network_too=False)

    def test_what_is_not_tls(self):
        self.check("not-tls", "EPROTO", f"{ON_THE_HOST}:", "TLS")
        self.assertNoSecrets()

    def test_many_wait_and_others_go_on(self):
        """Connects wait for a proxy that says nothing; a container beside them is not held up."""
        steps = [step for slot in range(16)
                 for step in (f"socket {slot} inet stream nonblock", f"connect {slot} {_TARGET}")]
        config = bundle.make_config(
            self.rootfs, ["/bin/probe", *steps, "sleep 3000"], netns=self.far.netns,
            annotations={"io.oakum.policy": "host-silent"})
        path = bundle.make_bundle(os.path.join(self.directory, Runtime.new_id()), config)
        waiting, process = self.runc.start(path, os.path.join(self.directory, "waiting.log"))
        self.addCleanup(self.runc.delete, waiting)
        self.addCleanup(process.stop)
        start = time.monotonic()
        failed, _ = self.steps("host-reply-5", f"tcp {_TARGET}")
        self.assertFailed(failed[0], "ECONNREFUSED")
        self.assertLess(time.monotonic() - start, TIMEOUT)


if __name__ == "__main__":
    case.main()
