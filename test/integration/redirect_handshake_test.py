"""Programs that speak to the proxy themselves: what they must speak is checked, whichever call they
write it with, and what they must not say never gets to the destination."""
import json

from lib import case, env, proc, proxies, redirect_case
from lib.proxies import PASSWORD, USER
from lib.redirect_case import REACHABLE

OPEN, CLOSED = 1080, 1081  # the proxy without and with a password
WAYS = ("write", "writev", "send", "sendto", "sendmsg", "splice", "sendfile", "bytewise")
NAME, ADDRESS = "www.example.test 7", "203.0.113.91 7"
WORKS, REFUSED = "hello", "refused"
# Policy, methods, user and password, where to: what comes of it.
_LOGIN = f"{USER} {PASSWORD}"
CASES = {
    "any": {f"00 {NAME}": WORKS, f"00 {ADDRESS}": REFUSED, "00 2001:db8::91 7": REFUSED},
    # The one method is taken that is wanted, whatever else is offered.
    "none": {f"00 {NAME}": WORKS, f"0002 {NAME}": WORKS, f"02 {_LOGIN} {NAME}": REFUSED},
    "password": {f"02 {_LOGIN} {NAME}": WORKS, f"00 {NAME}": REFUSED,
                 f"0002 {_LOGIN} {NAME}": REFUSED, f"02 {_LOGIN} {ADDRESS}": REFUSED},
    "isolation": {f"02 {_LOGIN} {NAME}": WORKS, f"02 {USER} else {NAME}": REFUSED},
}


class Handshakes(redirect_case.RedirectCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("curl", "microsocks"):
            env.tool(name)
        cls.open = cls.add(proxies.Microsocks(cls.directory, **cls.proxy_options(REACHABLE, OPEN)))
        cls.closed = cls.add(proxies.Microsocks(cls.directory, user=USER, password=PASSWORD,
                                                **cls.proxy_options(REACHABLE, CLOSED)))
        checks = {"any": {"auth": "any"}, "none": {"auth": "none"},
                  "password": {"auth": "password"},
                  "isolation": {"auth": "password", "isolation": "sesame-[0-9]+"}}
        urls = {name: f"socks5h://{REACHABLE}:{OPEN if name in ('any', 'none') else CLOSED}"
                for name in checks}
        policies = {name: {"mode": "enforce", "proxy": name, "log": "all",
                           "outgoing": {"default": "deny", "allow": redirect_case.LOOPBACK},
                           "handshake": {"require": "socks5", **check}}
                    for name, check in checks.items()}
        policies["audit"] = {**policies["any"], "mode": "audit"}
        cls.guard, cls.engine = cls.add_agent(redirect_case.policy_file(urls, policies))

    def setUp(self):
        self.far.reset()

    def wait_leaks(self, policy, count):
        """Until so many refusals have been told, one by one or folded into counts."""
        def told():
            return sum(event["oakum"].get("count", 1)
                       for event in self.guard.events(oakum__policy=policy, oakum__leak=True))
        proc.wait_until(lambda: told() >= count, 30, f"{count} leaks under {policy}")

    def handshakes(self, policy, proxy, cases):
        path = self.container(["/usr/bin/python3", "/workloads/handshake.py", proxy.host,
                               str(proxy.port), *cases], policy=policy)
        done = self.engine.run(path, guarded=policy is not None)
        return dict(json.loads(line) for line in done.stdout.splitlines())

    def test_whichever_call_writes_it(self):
        for policy, expected in CASES.items():
            proxy = self.open if policy in ("any", "none") else self.closed
            # microsocks itself wants each message in one piece.
            cases = {f"{way} {rest}": outcome for rest, outcome in expected.items()
                     for way in WAYS if way != "bytewise" or outcome == REFUSED}
            with self.subTest(policy=policy):
                # Bare, the proxy takes whatever is right for itself.
                bare = self.handshakes(None, proxy, cases)
                for case_, outcome in cases.items():
                    if outcome == WORKS or case_.startswith("write 00 ") and proxy is self.open:
                        self.assertEqual(bare[case_], WORKS, case_)
                before = proxy.log().count("connected to")
                self.assertEqual(self.handshakes(policy, proxy, cases), cases)
                works = sum(outcome == WORKS for outcome in cases.values())
                self.assertEqual(proxy.log().count("connected to") - before, works)
                self.wait_leaks(policy, len(cases) - works)
                leaks = self.guard.events(oakum__policy=policy, oakum__leak=True)
                self.assertEqual({event["destination"]["port"] for event in leaks}, {proxy.port})
                self.assertNotIn(PASSWORD, str([event["oakum"] for event in leaks]))

    def curl(self, policy, *options):
        path = self.container(["/usr/bin/curl", "-sS", "--max-time", "20", *options], policy=policy)
        return self.engine.run(path, check=False, guarded=policy is not None)

    def test_curl(self):
        where = f"{REACHABLE}:{OPEN}"
        url = "http://203.0.113.80/bytes/10"
        named = "http://www.example.test/bytes/10"
        self.assertEqual(self.curl("any", "--socks5-hostname", where, named).stdout, "0123456789")
        resolve = ["--resolve", "www.example.test:80:203.0.113.80"]
        for options in (["--socks5", where, *resolve, named], ["--socks4", where, url],
                        ["--proxy", f"http://{where}", named]):
            with self.subTest(options=options):
                if options[0] == "--socks5":
                    self.assertEqual(self.curl(None, *options).stdout, "0123456789")
                before = self.open.log().count("connected to")
                seen = len(self.guard.events(oakum__policy="any", oakum__leak=True))
                self.assertNotEqual(self.curl("any", *options).returncode, 0)
                self.assertEqual(self.open.log().count("connected to"), before)
                self.guard.wait_events(seen + 1, oakum__policy="any", oakum__leak=True)
        self.assertEqual(self.world.leaked((REACHABLE, OPEN)), 0)

    def test_audit(self):
        """What enforce would stop passes, and is told."""
        cases = {f"write 00 {NAME}": WORKS, f"write 00 {ADDRESS}": WORKS,
                 f"sendfile 00 {ADDRESS}": WORKS}
        self.assertEqual(self.handshakes("audit", self.open, cases), cases)
        self.guard.wait_events(2, oakum__policy="audit", oakum__would="deny")
        self.assertEqual(len(self.guard.events(oakum__policy="audit", oakum__would="deny")), 2)


if __name__ == "__main__":
    case.main()
