"""A policy that is changed and read again while a container is at work."""
import json
import os

from lib import agent, bundle, case, env, network, proc, rootfs, runtime

GOOD, BAD = network.FarSide.GOOD4, network.FarSide.BAD4


def policy(*allowed, **more):
    return agent.single_policy({
        "mode": "enforce", "outgoing": {"default": "deny", "allow": list(allowed)},
        "dns": "allow", **more})


class Reload(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))

    def setUp(self):
        self.agent = agent.Agent(self.directory, policy(GOOD)).start()
        self.addCleanup(self.agent.stop)
        self.runc = runtime.Runtime("runc", self.directory, config=self.agent.config)
        self.addCleanup(self.runc.close)

    def start(self, script):
        path = bundle.make_bundle(
            os.path.join(self.directory, self.runc.new_id()),
            bundle.make_config(self.rootfs, ["/bin/sh", "-c", script], netns=self.far.netns))
        container, process = self.runc.start(path, path + ".log")
        self.addCleanup(process.stop)
        return container, process

    def sessions(self):
        return json.loads(proc.run([env.program("oakum"), "ps", "--config", self.agent.config,
                                    "--format", "json"]).stdout)

    def reload(self, new):
        before = self.agent.log().count("is read again")
        self.agent.set_policy(new)
        self.agent.reload()
        self.agent.process.wait_for(
            lambda: self.agent.log().count("is read again") > before, 30, "the new policy")

    def test_every_call_meets_the_old_policy_or_the_new_one(self):
        """One address is allowed by both, the other by one of them."""
        _, process = self.start(
            f"while :; do /bin/probe 'tcp {GOOD} 80 hello' 'tcp {BAD} 80 hello'; done")
        process.wait_for(lambda: len(runtime.parse_probe(process.output())) > 10, 20, "it connects")
        for number in range(10):
            self.reload(policy(GOOD, BAD) if number % 2 == 0 else policy(GOOD))
            seen = process.output().count("\n")
            process.wait_for(lambda: process.output().count("\n") > seen + 4, 20, "it goes on")
        # Its last line may not have been written to the end.
        lines = process.output().rsplit("\n", 1)[0]
        steps = [step for step in runtime.parse_probe(lines) if step["op"] == "tcp"]
        met = {GOOD: set(), BAD: set()}
        for number, step in enumerate(steps):
            met[(GOOD, BAD)[step["step"] % 2] if "step" in step else (GOOD, BAD)[number % 2]].add(
                step["errno"])
        self.assertEqual(sorted(map(sorted, met.values())), [[""], ["", "EACCES"]])
        self.assertEqual([s["stale_filter"] for s in self.sessions()], [[]])

    def test_what_a_running_filter_cannot_give_is_said_for_its_container(self):
        old, _ = self.start("exec sleep 300")
        new_policy = policy(GOOD, incoming={"default": "deny", "allow": ["* from 10.0.0.0/8"]})
        self.assertEqual([s["stale_filter"] for s in self.sessions()], [[]])
        self.reload(new_policy)
        new, _ = self.start("exec sleep 300")
        missing = ["accept", "accept4", "bind", "listen"]
        self.assertEqual({s["container_id"]: s["stale_filter"] for s in self.sessions()},
                         {old: missing, new: []})
        warnings = [line for line in self.agent.log().splitlines() if "its filter is not" in line]
        self.assertEqual(len(warnings), 1, warnings)
        for text in (old, '"test"', ", ".join(missing), "start the container again"):
            self.assertIn(text, warnings[0])
        table = proc.run([env.program("oakum"), "ps", "--config", self.agent.config]).stdout
        self.assertEqual(sorted(row.split()[-2] for row in table.splitlines()[1:]),
                         ["current", "stale"])
        self.reload(policy(GOOD))
        self.assertEqual([s["stale_filter"] for s in self.sessions()], [[], []])


if __name__ == "__main__":
    case.main()
