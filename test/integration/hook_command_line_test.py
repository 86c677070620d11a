"""oakum-runtime around runc and crun on a plain command line."""
import ctypes
import errno
import json
import os
import platform

from lib import bundle, case, env, guarded, proc, runtime


class CommandLineAdapter:
    SHOWS_MESSAGE = True

    def __init__(self, fixture, name):
        self.fixture = fixture
        self.engines = {label: runtime.Runtime(name, fixture.directory, config=config)
                        for label, config in fixture.configs.items()}
        self._started = {}

    def make_bundle(self, args, policy=None, shared=None, **options):
        config = bundle.make_config(
            self.fixture.rootfs, args, netns=self.fixture.far.netns,
            annotations={"io.oakum.policy": policy} if policy else None, **options)
        if shared:
            config["mounts"].append({"destination": "/shared", "type": "bind", "source": shared,
                                     "options": ["rbind", "rw"]})
        return bundle.make_bundle(
            os.path.join(self.fixture.directory, runtime.Runtime.new_id()), config)

    def run(self, args, guarded=True, config="good", policy=None, check=True, **options):
        return self.engines[config].run(self.make_bundle(args, policy, **options), check=check,
                                        guarded=guarded)

    def start(self, name, args, config="good", shared=None):
        path = self.make_bundle(args, shared=shared)
        container_id, process = self.engines[config].start(path, path + "/log")
        self._started[name] = (self.engines[config], container_id, process)

    def exec(self, name, args, check=True):
        engine, container_id, _ = self._started[name]
        return engine.exec(container_id, *args, check=check)

    def remove(self, name):
        engine, container_id, process = self._started[name]
        engine.delete(container_id)
        process.stop()

    def close(self):
        for engine in self.engines.values():
            engine.close()


class CommandLine(guarded.GuardedContainers):
    RUNTIME = ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fixture = guarded.Fixture(cls, cls.RUNTIME)
        cls.adapter = CommandLineAdapter(cls.fixture, cls.RUNTIME)
        cls.addClassCleanup(cls.adapter.close)

    def run_config(self, config, *options):
        """Runs a bundle with this config.json, a text or a document."""
        path = bundle.make_bundle(
            os.path.join(self.directory, runtime.Runtime.new_id()), config)
        result = self.adapter.engines["good"].run(path, check=False, options=options)
        self.assertNotEqual(result.returncode, 0, result)
        return result

    def test_architectures_that_the_kernel_has_not_are_left_out(self):
        data = os.path.join(env.SOURCE_DIR, "test/data/seccomp/podman-default.json")
        with open(data, encoding="utf-8") as text:
            profile = json.load(text)
        path = self.adapter.make_bundle(["/bin/probe", f"tcp {self.far.BAD4} 80"], seccomp=profile)
        self.assertFailed(self.adapter.engines["good"].run_probe(path)[0], "EACCES")
        with open(path + "/config.json", encoding="utf-8") as text:
            left = json.load(text)["linux"]["seccomp"]["architectures"]
        libc = ctypes.CDLL(None, use_errno=True)
        x32 = ["SCMP_ARCH_X32"]
        if platform.machine() == "x86_64" and libc.prctl(21) == 0:  # PR_GET_SECCOMP: no filter here
            getpid = 0x40000000 + 39
            if libc.syscall(getpid) == -1 and ctypes.get_errno() == errno.ENOSYS:
                x32 = []
        self.assertEqual(left, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] + x32)

    def test_ipv6_is_guarded_as_well(self):
        far = self.far
        far.reset()
        steps = self.probe(f"tcp {far.BAD6} 80 hello", f"udp {far.BAD6} 443 hello", guarded=False)
        self.assertEqual([s["errno"] for s in steps], ["", ""])
        self.assertGreaterEqual(far.packets(far.BAD6), 4)
        far.reset()
        steps = self.probe(f"tcp {far.BAD6} 80 hello", f"udp {far.BAD6} 443 hello",
                           f"tcp ::ffff:{far.BAD4} 80 hello", f"tcp {far.GOOD6} 80 hello")
        for step in steps[:3]:
            self.assertFailed(step, "EACCES")
        self.assertWorked(steps[3])
        self.assertEqual(far.packets(far.BAD6), 0)
        self.assertEqual(far.packets(far.BAD4), 0)

    def test_a_malformed_config_says_where(self):
        for text, message in (('{"process":\n }', "config.json:2:"), ("", "config.json:1:1"),
                              ('{"linux": 1}', "linux must be an object"),
                              ('{"linux": {}, "linux": {}}', "config.json:1:")):
            with self.subTest(text=text):
                self.assertIn(message, self.run_config(text).stderr)

    def test_somebody_elses_listener_is_refused(self):
        config = bundle.make_config(self.fixture.rootfs, ["/bin/true"], seccomp={
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/other.sock",
            "syscalls": [{"names": ["connect"], "action": "SCMP_ACT_NOTIFY"}]})
        self.assertIn('"/run/other.sock" already listens', self.run_config(config).stderr)

    def test_errors_go_to_the_log_in_its_format(self):
        log = os.path.join(self.directory, "runtime.log")
        self.run_config("{", "--log", log, "--log-format", "json")
        self.run_config("{", "--log", log, "--log-format", "text")
        with open(log, encoding="utf-8") as lines:
            first, second = lines.read().splitlines()
        entry = json.loads(first)
        self.assertEqual(entry["level"], "error")
        self.assertIn("config.json:1:", entry["msg"])
        self.assertRegex(second, r'^time="[^"]+" level=error msg="oakum-runtime: ')

    def test_a_bundle_can_be_run_again_with_another_policy(self):
        far = self.far
        path = self.adapter.make_bundle(["/bin/probe", f"tcp {far.BAD4} 80 hello"])
        engine = self.adapter.engines["good"]
        self.assertFailed(engine.run_probe(path)[0], "EACCES")
        self.assertFailed(engine.run_probe(path)[0], "EACCES")
        policy = json.loads(json.dumps(guarded.POLICY))
        policy["policies"]["enforce"]["incoming"] = {"default": "deny"}
        policy["policies"]["enforce"]["outgoing"] = {"default": "allow"}
        self.fixture.agent.set_policy(policy)
        self.fixture.agent.reload()
        self.addCleanup(self.fixture.agent.reload)
        self.addCleanup(self.fixture.agent.set_policy, guarded.POLICY)
        proc.wait_until(lambda: engine.run_probe(path)[0]["errno"] == "", 30, "the new policy")

    def test_create_and_start_are_guarded_without_new_privileges_or_with(self):
        far = self.far
        for no_new_privileges in (True, False):
            with self.subTest(no_new_privileges=no_new_privileges):
                far.reset()
                shared = os.path.join(self.directory, f"created-{no_new_privileges}")
                os.makedirs(shared)
                path = self.adapter.make_bundle(
                    ["/bin/sh", "-c", f"/bin/probe 'tcp {far.BAD4} 80 hello' > /shared/out"],
                    shared=shared, no_new_privileges=no_new_privileges)
                engine = self.adapter.engines["good"]
                container_id, _, _ = engine.create(path)
                proc.run(engine.command("start", container_id))
                proc.wait_until(lambda e=engine, c=container_id:
                                e.state(c).get("status") == "stopped", 30, "its end")
                with open(shared + "/out", encoding="utf-8") as out:
                    self.assertFailed(runtime.parse_probe(out.read())[0], "EACCES")
                self.assertEqual(far.packets(far.BAD4), 0)

    def test_other_commands_reach_the_runtime(self):
        engine = self.adapter.engines["good"]
        self.assertIn(f"{self.RUNTIME} version", proc.run(engine.command("--version")).stdout)
        # Containers can be looked at and removed whether there is an agent and a policy or not.
        for label in ("no-agent", "bad-policy"):
            proc.run(self.adapter.engines[label].command("list"))
        refused = proc.run(engine.command("restore", "x"), check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("would not be guarded", refused.stderr)


class RuncCommandLineTest(CommandLine, case.Case):
    RUNTIME = "runc"


class CrunCommandLineTest(CommandLine, case.Case):
    RUNTIME = "crun"

    def test_the_file_of_crun_config_is_guarded(self):
        far = self.far
        path = self.adapter.make_bundle(["/bin/probe", f"tcp {far.BAD4} 80 hello"])
        other = os.path.join(path, "other.json")
        os.rename(os.path.join(path, "config.json"), other)
        engine = self.adapter.engines["good"]
        result = proc.run(engine.command("run", "-b", path, "-f", other, runtime.Runtime.new_id()))
        self.assertFailed(runtime.parse_probe(result.stdout)[0], "EACCES")


class LoopTest(case.Case):

    def test_the_runtime_is_never_itself(self):
        config = os.path.join(self.directory, "config.json")
        wrapper = os.path.join(self.directory, "runc")
        with open(wrapper, "w", encoding="utf-8") as out:
            out.write(f'#!/bin/sh\nexec {env.program("oakum-runtime")} --oakum-config={config} "$@"\n')
        os.chmod(wrapper, 0o755)
        for path in (env.program("oakum-runtime"), wrapper):
            with self.subTest(path=path):
                with open(config, "w", encoding="utf-8") as out:
                    json.dump({"runtime": path}, out)
                result = proc.run([env.program("oakum-runtime"), f"--oakum-config={config}", "list"],
                                  check=False, timeout=10)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn("oakum-runtime", result.stderr)
                self.assertIn("real one", result.stderr)


if __name__ == "__main__":
    case.main()
