"""`oakum policy seccomp`: a container that is given the printed profile is guarded, with neither hook
nor wrapper."""
import json
import os

from lib import bundle, case, env, network, podman, rootfs, runtime
from lib.agent import Agent, single_policy
from lib.proc import run

_FAR = network.FarSide
_POLICY = single_policy({"mode": "enforce", "outgoing": {"default": "deny", "allow": [_FAR.GOOD4]}},
                        name="only-good")
_PODMAN_PROFILE = "/usr/share/containers/seccomp.json"
_STEPS = (f"tcp {_FAR.BAD4} 80 hello", f"tcp {_FAR.GOOD4} 80 hello")


class Seccomp(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))
        cls.agent = Agent(cls.directory, _POLICY).start()
        cls.addClassCleanup(cls.agent.stop)

    def profile(self, *options):
        return run([env.program("oakum"), "policy", "seccomp", "--config", self.agent.config,
                    "--policy", "only-good", *options]).stdout

    def assertGuarded(self, probe):
        """`probe(guarded)` runs the steps; without the profile the first one leaks."""
        before = len(self.agent.events())
        self.far.reset()
        self.assertWorked(probe(False)[0])
        self.assertGreater(self.far.settle(_FAR.BAD4), 0)
        self.far.reset()
        bad, good = probe(True)
        self.assertFailed(bad, "EACCES")
        self.assertWorked(good)
        self.assertGreater(self.far.settle(_FAR.GOOD4), 0)
        self.assertEqual(self.far.packets(_FAR.BAD4), 0)
        event = self.agent.wait_events(before + 1)[-1]
        self.assertEqual(event["oakum"]["verdict"], "deny")
        self.assertEqual(event["oakum"]["policy"], "only-good")
        self.assertEqual(event["rule"]["name"], "outgoing.default deny")

    def check_runtime(self, name, *options):
        engine = runtime.Runtime(name, self.directory)
        self.addCleanup(engine.close)
        profile = json.loads(self.profile(*options))

        def probe(guarded):
            config = bundle.make_config(self.rootfs, ["/bin/probe", *_STEPS],
                                        netns=self.far.netns, seccomp=profile if guarded else None)
            path = os.path.join(self.directory, f"bundle-{engine.new_id()}")
            return engine.run_probe(bundle.make_bundle(path, config))

        self.assertGuarded(probe)

    def test_runc_with_nothing_to_start_from(self):
        self.check_runtime("runc")

    def test_runc_on_top_of_podmans_profile(self):
        self.check_runtime("runc", "--base", _PODMAN_PROFILE)

    def test_crun_on_top_of_podmans_profile(self):
        self.check_runtime("crun", "--base", _PODMAN_PROFILE)

    def test_podman_with_security_opt(self):
        archive = rootfs.pack_rootfs(self.rootfs, os.path.join(self.directory, "rootfs.tar"))
        engine = podman.Podman(self.directory, rootfs_archive=archive)
        self.addCleanup(engine.close)
        path = os.path.join(self.directory, "profile.json")
        with open(path, "w", encoding="utf-8") as out:
            out.write(self.profile("--base", _PODMAN_PROFILE))

        def probe(guarded):
            options = ["--security-opt", f"seccomp={path}"] if guarded else []
            return engine.run_probe(*_STEPS, netns=self.far.netns, options=options)

        self.assertGuarded(probe)


if __name__ == "__main__":
    case.main()
