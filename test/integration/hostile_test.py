"""What a hostile program puts on the wire under the name of something that is allowed: counted
where it comes out of the container, without a guard and with one."""
import json
import os

from lib import agent, bundle, case, env, network, proc, rootfs, runtime

FAR = network.FarSide
SCOPED, SCOPED_BAD, OWN_SCOPED = "fe80::77", "fe80::66", "fe80::22"
POLICY = {
    "mode": "enforce",
    "outgoing": {"default": "deny", "allow": [
        "127.0.0.0/8", "[::1]", FAR.GOOD4, f"[{FAR.GOOD6}]", f"[{SCOPED}]"]},
}
# An address inside of another one: everything is allowed but one IPv4 address.
CARRIERS = {"mode": "enforce", "outgoing": {"default": "allow", "deny": [FAR.BAD4]}}
# At the network device, where also what the far side's own stack would drop is seen.
TABLE = """
table netdev oakum_wire {
  set seen4 { type ipv4_addr . inet_service; flags dynamic; counter; }
  set seen6 { type ipv6_addr . inet_service; flags dynamic; counter; }
  set other4 { type ipv4_addr; flags dynamic; counter; }
  chain in {
    type filter hook ingress device "far0" priority 0;
    meta protocol ip meta l4proto udp update @seen4 { ip daddr . udp dport } accept
    meta protocol ip6 meta l4proto udp update @seen6 { ip6 daddr . udp dport } accept
    meta protocol ip update @other4 { ip daddr }
  }
}
"""


class Wire:
    """Counts what comes out of the container by address and udp port."""

    def __init__(self, far):
        self.far = far
        far.in_netns(far.far, env.tool("nft"), "-f", "-", stdin=TABLE)

    def seen(self):
        text = self.far.in_netns(self.far.far, env.tool("nft"), "-j", "list", "table", "netdev",
                                 "oakum_wire").stdout
        out = set()
        for entry in json.loads(text)["nftables"]:
            for element in entry.get("set", {}).get("elem", []):
                value = element["elem"]["val"]
                out.add(tuple(value["concat"]) if isinstance(value, dict) else (value, 0))
        return out

    def reset(self):
        self.far.in_netns(self.far.far, env.tool("nft"), "-f", "-", stdin="".join(
            f"flush set netdev oakum_wire {name}\n" for name in ("seen4", "seen6", "other4")))


class Hostile(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        ip = env.tool("ip")
        proc.run([ip, "-n", cls.far.inner, "link", "set", "lo", "up"])
        for netns, link, address in ((cls.far.far, "far0", SCOPED), (cls.far.far, "far0", SCOPED_BAD),
                                     (cls.far.inner, "in0", OWN_SCOPED)):
            proc.run([ip, "-n", netns, "-6", "addr", "add", f"{address}/64", "dev", link, "nodad"])
        # Ping sockets for everybody (icmp(7), ping_group_range).
        cls.far.exec_inner("/bin/sh", "-c",
                           "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
        # What the far side answers with would only be noise.
        cls.wire = Wire(cls.far)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), ("hostile",))

    def container(self, policy):
        guard = agent.Agent(self.directory, agent.single_policy(policy)).start()
        self.addCleanup(guard.stop)
        engine = runtime.Runtime("runc", self.directory, config=guard.config)
        self.addCleanup(engine.close)
        return guard, engine

    def run_steps(self, engine, steps, guarded, capabilities):
        """The errno value of each step, and what came out of the container."""
        config = bundle.make_config(self.rootfs, ["/bin/hostile", "far", *steps],
                                    netns=self.far.netns, uid=0 if capabilities else 65534,
                                    capabilities=capabilities)
        path = bundle.make_bundle(os.path.join(self.directory, engine.new_id()), config)
        self.wire.reset()
        lines = engine.run(path, guarded=guarded).stdout.splitlines()
        return [json.loads(line)["errno"] for line in lines], self.wire.seen()

    def check(self, policy, ways, capabilities=()):
        """`ways`: (step, what is seen on the wire without a guard, errno value with one). Without
        capabilities, as another user than root: then it is open to anybody."""
        guard, engine = self.container(policy)
        steps = [step for step, _, _ in ways]
        errors, seen = self.run_steps(engine, steps, False, capabilities)
        for (step, leak, _), error in zip(ways, errors):
            with self.subTest(step=step, guarded=False):
                self.assertEqual(error, 0)
                self.assertIn(leak, seen)
        errors, seen = self.run_steps(engine, steps, True, capabilities)
        self.assertEqual(len(errors), len(ways))
        for (step, leak, expected), error in zip(ways, errors):
            with self.subTest(step=step, guarded=True):
                self.assertEqual(error, expected)
                (self.assertIn if expected == 0 else self.assertNotIn)(leak, seen)
        refused = sum(expected != 0 for _, _, expected in ways)
        # Equal events within a second are folded into one with a count.
        self.assertGreaterEqual(sum(e["oakum"].get("count", 1) for e in guard.wait_events(
            1, oakum__verdict="deny")), 1 if refused else 0)

    EPERM, EACCES = 1, 13

    def test_loopback_stays_loopback(self):
        ways = []
        for address, steps in (("127.0.0.1", ("device", "device-index", "device-connected",
                                              "unicast-interface", "packet-info")),
                               ("::1", ("device", "device-index", "unicast-interface",
                                        "packet-info"))):
            for step in steps:
                port = 2000 + len(ways)
                ways.append((f"{step} {address} {port} in0", (address, port),
                             self.EACCES if step == "packet-info" else self.EPERM))
        ways.append((f"bind-scope ::1 2100 {OWN_SCOPED}%in0", ("::1", 2100), self.EACCES))
        self.check(POLICY, ways)

    def test_routes_lead_nowhere_else(self):
        good, bad = FAR.GOOD4, FAR.BAD4
        self.check(POLICY, [
            (f"route-option {good} 2201 {bad}", (bad, 2201), self.EPERM),
            (f"route-connected {good} 2202 {bad}", (bad, 2202), self.EPERM),
            (f"route-control {good} 2203 {bad}", (bad, 2203), self.EACCES),
        ], capabilities=["CAP_NET_RAW"])
        self.check(POLICY, [
            (f"route-segments {FAR.GOOD6} 2204 {FAR.BAD6}", (FAR.BAD6, 2204), self.EPERM),
        ])

    def test_groups_are_joined_only_where_reports_may_go(self):
        # The kernel sends a report some time later, and repeats it: the guarded container first.
        _, engine = self.container(POLICY)
        step, report = ["join 239.1.2.3 0 in0"], ("224.0.0.22", 0)
        errors, seen = self.run_steps(engine, step, True, ())
        self.assertEqual(errors, [self.EPERM])
        self.assertNotIn(report, seen)
        errors, _ = self.run_steps(engine, step, False, ())
        self.assertEqual(errors, [0])
        proc.wait_until(lambda: report in self.wire.seen(), 30, "the report of the membership")

    def test_multicast_broadcast_and_scopes_are_destinations(self):
        self.check(POLICY, [
            (f"plain {FAR.GOOD4} 2301", (FAR.GOOD4, 2301), 0),
            (f"plain {FAR.BAD4} 2302", (FAR.BAD4, 2302), self.EACCES),
            (f"mapped ::ffff:{FAR.BAD4} 2303", (FAR.BAD4, 2303), self.EACCES),
            ("plain 239.1.2.3 2304", ("239.1.2.3", 2304), self.EACCES),
            ("plain 255.255.255.255 2305", ("255.255.255.255", 2305), self.EACCES),
            ("plain 10.77.0.255 2306", ("10.77.0.255", 2306), self.EACCES),
            ("plain ff02::1234%in0 2307", ("ff02::1234", 2307), self.EACCES),
            (f"plain {SCOPED}%in0 2308", (SCOPED, 2308), 0),
            (f"plain {SCOPED_BAD}%in0 2309", (SCOPED_BAD, 2309), self.EACCES),
            (f"ping {FAR.BAD4} 0", (FAR.BAD4, 0), self.EACCES),
        ])

    def test_bad_input_gets_the_kernels_errno(self):
        """As root in a container of runc, with every kind of call decided and all allowed."""
        _, engine = self.container({
            "mode": "enforce", "outgoing": {"default": "allow"}, "dns": "allow",
            "incoming": {"default": "deny", "allow": ["*", "* from *"]},
            "unix": {"default": "allow", "deny": ["/nobody/asks"]}})
        for seed in (101, 102):
            config = bundle.make_config(self.rootfs, ["/bin/hostile", "bad-input", str(seed), "3000"],
                                        netns=self.far.netns)
            path = bundle.make_bundle(os.path.join(self.directory, engine.new_id()), config)
            native = engine.run(path, guarded=False).stdout.splitlines()
            guarded = engine.run(path).stdout.splitlines()
            self.assertEqual(len(native), 3000)
            self.assertEqual([pair for pair in zip(guarded, native) if pair[0] != pair[1]], [])

    def test_addresses_that_carry_ipv4_are_decided_as_both(self):
        # 203.0.113.20
        self.check(CARRIERS, [
            ("plain 64:ff9b::cb00:7114 2401", ("64:ff9b::cb00:7114", 2401), self.EACCES),
            ("plain 2002:cb00:7114::1 2402", ("2002:cb00:7114::1", 2402), self.EACCES),
            ("plain 64:ff9b::cb00:7115 2403", ("64:ff9b::cb00:7115", 2403), 0),
        ])


if __name__ == "__main__":
    case.main()
