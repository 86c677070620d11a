"""The same cases for every way that Oakum gets at a container: each engine's test is one adapter and
this mixin."""
import json
import os
import signal
import time

from . import env, network, rootfs
from .agent import Agent, write_json
from .proc import run, wait_until
from .runtime import parse_probe

_GOOD4, _GOOD6 = network.FarSide.GOOD4, network.FarSide.GOOD6
_OUTGOING = {"default": "deny", "allow": [_GOOD4, f"[{_GOOD6}]"]}
# Who picks a policy: an annotation where the engine hands annotations over, else label and name.
POLICY = {
    "version": 1,
    "policies": {
        mode: {"mode": mode, "outgoing": _OUTGOING} for mode in ("enforce", "audit", "kill")
    },
    "containers": [
        {"match": {"annotation": {"io.oakum.policy": "*"}}, "policy": "$io.oakum.policy"},
        {"match": {"engine": "docker", "label": {"test.policy": "audit"}}, "policy": "audit"},
        {"match": {"engine": "docker", "name": "kill-*"}, "policy": "kill"},
        {"match": {}, "policy": "enforce"},
    ],
}


class Fixture:
    """What an adapter works with: network, root file system, agents and the configuration files
    `configs["good"|"lone"|"no-agent"|"bad-policy"]`."""

    def __init__(self, case, runtime):
        self.directory = case.directory
        self.far = network.FarSide(self.directory)
        case.addClassCleanup(self.far.close)
        self.rootfs = rootfs.make_rootfs(os.path.join(self.directory, "rootfs"))
        self.archive = rootfs.pack_rootfs(self.rootfs, os.path.join(self.directory, "rootfs.tar"))
        self.agent = Agent(self.directory, POLICY, runtime=runtime).start()
        case.addClassCleanup(self.agent.stop)
        self.lone = Agent(self.directory, POLICY, runtime=runtime)
        case.addClassCleanup(self.lone.stop)
        base = {"runtime": runtime, "socket": self.agent.socket, "policy": self.agent.policy_path}
        bad_policy = write_json(os.path.join(self.directory, "bad-policy.json"),
                                '{\n "version": 1,\n "polices": {}\n}\n')
        self.configs = {"good": self.agent.config, "lone": self.lone.config}
        for name, change in (("no-agent", {"socket": self.directory + "/nobody.sock"}),
                             ("bad-policy", {"policy": bad_policy})):
            self.configs[name] = write_json(os.path.join(self.directory, f"config-{name}.json"),
                                            {**base, **change})


class GuardedContainers:
    """Needs `adapter` and `fixture` of the class. An adapter has

    run(args, guarded=True, config="good", policy=None, check=True): in the foreground, a Result;
    start(name, args, config="good", shared=None): in the background, with the directory `shared`
      at /shared; exec(name, args): a Result; remove(name);
    ENGINE: `oakum` fact or None; SHOWS_MESSAGE: whether the engine shows our own line.
    """

    ANNOTATIONS = True

    @property
    def far(self):
        return self.fixture.far

    def probe(self, *steps, **options):
        return parse_probe(self.adapter.run(["/bin/probe", *steps], **options).stdout)

    def bad_steps(self):
        far = self.far
        steps = [f"tcp {far.BAD4} 80 hello", f"udp {far.BAD4} 443 hello", "socket 0 inet dgram",
                 f"sendmsg 0 0 hello {far.BAD4} 443", f"sendmmsg 0 0 hello {far.BAD4} 443",
                 f"connect 0 {far.BAD4} 9050"]
        return steps

    def test_what_leaks_without_oakum_is_denied_with_it(self):
        far = self.far
        far.reset()
        for step in self.probe(*self.bad_steps(), guarded=False):
            self.assertWorked(step)
        self.assertGreaterEqual(far.packets(far.BAD4), 6)

        far.reset()
        seen = len(self.fixture.agent.events(oakum__verdict="deny"))
        steps = self.probe(*self.bad_steps(), f"tcp {far.GOOD4} 80 hello",
                           f"udp {far.GOOD4} 443 hello")
        self.assertWorked(steps[2])
        for step in steps[:2] + steps[3:6]:
            self.assertFailed(step, "EACCES")
        for step in steps[6:]:
            self.assertWorked(step)
            self.assertEqual(step["data"], "hello")
        self.assertEqual(far.packets(far.BAD4), 0)
        self.assertGreaterEqual(far.packets(far.GOOD4), 4)
        events = self.fixture.agent.wait_events(seen + 5, oakum__verdict="deny")[seen:]
        self.assertEqual({e["destination"]["ip"] for e in events}, {far.BAD4})
        self.assertEqual({e["oakum"]["policy"] for e in events}, {"enforce"})

    def test_exec_is_guarded_as_well(self):
        far = self.far
        self.adapter.start("oakum-exec", ["/bin/sleep", "300"])
        self.addCleanup(self.adapter.remove, "oakum-exec")
        far.reset()
        steps = parse_probe(self.adapter.exec("oakum-exec", [
            "/bin/probe", f"tcp {far.BAD4} 80 hello", f"tcp {far.GOOD4} 80 hello"]).stdout)
        self.assertFailed(steps[0], "EACCES")
        self.assertWorked(steps[1])
        self.assertEqual(far.packets(far.BAD4), 0)

    def test_audit_lets_it_pass_and_reports(self):
        far = self.far
        far.reset()
        seen = len(self.fixture.agent.events(oakum__verdict="audit"))
        self.assertWorked(self.probe(f"tcp {far.BAD4} 80 hello", policy="audit")[0])
        self.assertGreaterEqual(far.packets(far.BAD4, "tcp", 80), 1)
        event = self.fixture.agent.wait_events(seen + 1, oakum__verdict="audit")[seen]
        self.assertEqual(event["oakum"]["would"], "deny")
        self.assertTrue(event["oakum"]["leak"])
        self.assertEqual(event["destination"]["ip"], far.BAD4)

    def test_kill_ends_the_container(self):
        far = self.far
        far.reset()
        result = self.adapter.run(
            ["/bin/probe", "socket 0 inet stream", f"connect 0 {far.BAD4} 80", "sleep 1"],
            policy="kill", check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual([s["op"] for s in parse_probe(result.stdout)], ["socket"])
        self.assertEqual(far.packets(far.BAD4), 0)
        self.fixture.agent.wait_events(1, oakum__verdict="kill")

    def assertRefused(self, message, **options):
        self.far.reset()
        result = self.adapter.run(["/bin/probe", f"tcp {self.far.GOOD4} 80 hello"], check=False,
                                  **options)
        self.assertNotEqual(result.returncode, 0, result)
        self.assertEqual(parse_probe(result.stdout), [], "the container ran")
        self.assertEqual(self.far.packets(), 0, self.far.seen())
        if self.adapter.SHOWS_MESSAGE:
            self.assertIn(message, result.stdout + result.stderr)

    def test_without_an_agent_no_container_starts(self):
        self.assertRefused("the agent is not running", config="no-agent")

    def test_with_a_bad_policy_no_container_starts(self):
        self.assertRefused("bad-policy.json:3", config="bad-policy")

    def test_with_an_unknown_policy_in_its_annotation_no_container_starts(self):
        if not self.ANNOTATIONS:
            return
        self.assertRefused("names the policy", policy="no-such-policy")

    def test_a_killed_agent_leaves_nothing_open(self):
        far = self.far
        lone = self.fixture.lone
        lone.start()
        keeper = lone.keeper_pid()
        shared = os.path.join(self.directory, "shared")
        os.makedirs(shared, exist_ok=True)
        self.adapter.start("oakum-lone", [
            "/bin/sh", "-c", f"/bin/probe 'tcp {far.GOOD4} 80 hello' 'wait /shared/go' "
            f"'tcp {far.GOOD4} 80 hello' 'tcp {far.BAD4} 80 hello' 'socket 0 inet dgram' "
            f"'sendto 0 0 hello {far.GOOD4} 443' > /shared/out; sleep 300"], config="lone",
            shared=shared)
        self.addCleanup(self.adapter.remove, "oakum-lone")
        out = os.path.join(shared, "out")

        def steps():
            if not os.path.exists(out):
                return []
            with open(out, encoding="utf-8") as text:
                return parse_probe(text.read())

        wait_until(steps, 30, "the first connection")
        self.assertWorked(steps()[0])
        lone.kill()
        far.reset()
        with open(os.path.join(shared, "go"), "w", encoding="ascii"):
            pass
        # Its calls wait for another agent as long as somebody keeps them for it.
        time.sleep(0.3)
        self.assertLessEqual(len(steps()), 2)
        self.assertEqual(far.packets(), 0, far.seen())
        os.kill(keeper, signal.SIGTERM)
        wait_until(lambda: len(steps()) == 6, 30, "the calls after the keeper's end")
        for step in (steps()[2], steps()[3], steps()[5]):
            self.assertFailed(step, "ENOSYS")
        time.sleep(0.1)
        self.assertEqual(far.packets(), 0, far.seen())
        # A second program cannot get in either: it would have no listener.
        refused = self.adapter.exec("oakum-lone", ["/bin/probe", f"tcp {far.GOOD4} 80"],
                                    check=False)
        self.assertNotEqual(refused.returncode, 0, refused)
        self.assertEqual(far.packets(), 0, far.seen())
        self.adapter.remove("oakum-lone")
        lone.start()
