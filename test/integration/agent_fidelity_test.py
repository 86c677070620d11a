"""The answers that a guarded container gets are those of a bare one: the fidelity program, line by
line, on runc and crun, with a policy that allows everything and yet decides every call."""
import os

from lib import agent, bundle, case, env, network, proc, rootfs, runtime

ALLOW_ALL = {
    "mode": "enforce",
    "outgoing": {"default": "allow"},
    "dns": "allow",
    # Not the same as leaving them out: with rules, bind, listen, accept and paths are decided.
    "incoming": {"default": "deny", "allow": ["*", "* from *"]},
    "unix": {"default": "allow", "deny": ["/nowhere/at/all"]},
}


class Fidelity(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        # The cases use loopback only.
        proc.run([env.tool("ip"), "-n", cls.far.inner, "link", "set", "lo", "up"])
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), ("fidelity",))

    def outputs(self, name, uid):
        """The program's output without and with a guard."""
        guard = agent.Agent(self.directory, agent.single_policy(ALLOW_ALL), runtime=name).start()
        self.addCleanup(guard.stop)
        engine = runtime.Runtime(name, self.directory, config=guard.config)
        self.addCleanup(engine.close)
        config = bundle.make_config(self.rootfs, ["/bin/fidelity"], netns=self.far.netns, uid=uid)
        path = bundle.make_bundle(os.path.join(self.directory, engine.new_id()), config)
        native = engine.run(path, guarded=False, timeout=90).stdout
        guarded = engine.run(path, timeout=90).stdout
        return native.splitlines(), guarded.splitlines()

    def check(self, name, uid):
        native, guarded = self.outputs(name, uid)
        self.assertGreater(len(native), 50)
        self.assertEqual(native, guarded)

    def test_runc_as_root(self):
        self.check("runc", 0)

    def test_runc_as_user(self):
        self.check("runc", 65534)

    def test_crun_as_root(self):
        self.check("crun", 0)


if __name__ == "__main__":
    case.main()
