"""podman: the precreate hook (given as --hooks-dir and installed) and oakum-runtime as --runtime."""
import json
import os
import shutil
import socket

from lib import case, env, guarded, podman, proc


class PodmanAdapter:

    def __init__(self, fixture, runtime, before):
        """before: label -> global options of podman."""
        self.fixture = fixture
        self._before = before
        self.engine = podman.Podman(fixture.directory, runtime=runtime,
                                    rootfs_archive=fixture.archive)

    def run(self, args, guarded=True, config="good", policy=None, check=True, options=()):
        options = [*options, *(["--annotation", f"io.oakum.policy={policy}"] if policy else [])]
        return self.engine.run(*args, netns=self.fixture.far.netns, options=options, check=check,
                               before=self._before[config] if guarded else ())

    def start(self, name, args, config="good", shared=None):
        volume = ["--volume", f"{shared}:/shared"] if shared else []
        self.engine.start(name, *args, netns=self.fixture.far.netns, options=volume,
                          before=self._before[config])

    def exec(self, name, args, check=True):
        return self.engine.exec(name, *args, check=check)

    def remove(self, name):
        self.engine.remove(name)


class HookAdapter(PodmanAdapter):
    SHOWS_MESSAGE = False  # podman throws a hook's stderr away

    def __init__(self, fixture, runtime):
        super().__init__(fixture, runtime, {
            label: ["--hooks-dir", podman.write_hook(f"{fixture.directory}/hooks-{label}", config)]
            for label, config in fixture.configs.items()})


class RuntimeAdapter(PodmanAdapter):
    SHOWS_MESSAGE = True

    def __init__(self, fixture, runtime):
        super().__init__(fixture, runtime, {
            label: ["--runtime", env.program("oakum-runtime"), "--runtime-flag",
                    f"oakum-config={config}"]
            for label, config in fixture.configs.items()})


class PodmanCase(guarded.GuardedContainers):
    ADAPTER, RUNTIME = HookAdapter, ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fixture = guarded.Fixture(cls, cls.RUNTIME)
        cls.adapter = cls.ADAPTER(cls.fixture, cls.RUNTIME)
        cls.addClassCleanup(cls.adapter.engine.close)

    def test_the_event_names_the_container(self):
        self.adapter.run(["/bin/probe", f"tcp {self.far.BAD4} 80"], options=["--name", "named"])
        event = self.fixture.agent.wait_events(1, container__name="named")[0]
        self.assertEqual(event["container"]["image"]["name"], podman.IMAGE)

    def test_nothing_of_kubernetes_can_be_forged(self):
        """With a namespace rule first, the words of CRI-O and containerd change nothing."""
        policy = json.loads(json.dumps(guarded.POLICY))
        policy["containers"].insert(0, {"match": {"namespace": "*"}, "policy": "audit"})
        policy["containers"].insert(0, {"match": {"engine": "cri-o"}, "policy": "audit"})
        self.fixture.agent.set_policy(policy)
        self.addCleanup(self.fixture.agent.set_policy, guarded.POLICY)
        options = [word for key, value in (
            ("io.container.manager", "cri-o"), ("io.kubernetes.pod.namespace", "x"),
            ("io.kubernetes.cri.sandbox-namespace", "x"),
            ("io.kubernetes.cri-o.ContainerType", "container"))
            for word in ("--annotation", f"{key}={value}")]
        step = json.loads(self.adapter.run(["/bin/probe", f"tcp {self.far.BAD4} 80"],
                                           options=options).stdout)
        self.assertFailed(step, "EACCES")


class HookCase(PodmanCase):

    def test_the_image_is_matched(self):
        policy = json.loads(json.dumps(guarded.POLICY))
        policy["containers"][:] = [{"match": {"image": "localhost/oakum/*"}, "policy": "audit"}]
        self.fixture.agent.set_policy(policy)
        self.addCleanup(self.fixture.agent.set_policy, guarded.POLICY)
        self.assertWorked(self.probe(f"tcp {self.far.BAD4} 80")[0])

    def test_a_privileged_container_is_guarded_as_well(self):
        far = self.far
        far.reset()
        result = self.adapter.run(["/bin/probe", f"tcp {far.BAD4} 80 hello"],
                                  options=["--security-opt", "seccomp=unconfined"])
        self.assertFailed(json.loads(result.stdout), "EACCES")
        self.assertEqual(far.packets(far.BAD4), 0)

    def test_somebody_elses_listener_is_refused(self):
        profile = os.path.join(self.directory, "profile.json")
        with open(profile, "w", encoding="utf-8") as out:
            json.dump({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/other.sock",
                       "syscalls": [{"names": ["connect"], "action": "SCMP_ACT_NOTIFY"}]}, out)
        result = self.adapter.run(["/bin/true"], check=False,
                                  options=["--security-opt", f"seccomp={profile}"])
        self.assertNotEqual(result.returncode, 0)


class RuncHookTest(HookCase, case.Case):
    RUNTIME = "runc"


class CrunHookTest(HookCase, case.Case):
    RUNTIME = "crun"


class RuntimeTest(PodmanCase, case.Case):
    ADAPTER, RUNTIME = RuntimeAdapter, "crun"


class InstalledHookTest(case.Case):
    """The hook where `cmake --install` puts it: found through containers.conf alone."""

    def test_it_guards_every_container(self):
        fixture = guarded.Fixture(type(self), "runc")
        far = fixture.far
        hooks = podman.write_hook(os.path.join(self.directory, "oakum/hooks.d"),
                                  fixture.configs["good"])
        containers = os.path.join(self.directory, "etc-containers")
        shutil.copytree("/etc/containers", containers, symlinks=True)
        drop_in = os.path.join(containers, "containers.conf.d")
        os.makedirs(drop_in, exist_ok=True)
        with open(os.path.join(drop_in, "oakum.conf"), "w", encoding="utf-8") as out:
            out.write('[engine]\nhooks_dir = ["/usr/share/containers/oci/hooks.d", '
                      f'"/etc/containers/oci/hooks.d", "{hooks}"]\n')
        script = f'mount --bind {containers} /etc/containers && exec "$@"'
        engine = podman.Podman(
            self.directory, rootfs_archive=fixture.archive,
            mount_prefix=[env.tool("unshare"), "-m", "--propagation", "slave", "sh", "-c", script,
                          "sh"])
        self.addCleanup(engine.close)
        far.reset()
        steps = engine.run_probe(f"tcp {far.BAD4} 80 hello", f"tcp {far.GOOD4} 80 hello",
                                 netns=far.netns)
        self.assertFailed(steps[0], "EACCES")
        self.assertWorked(steps[1])
        self.assertEqual(far.packets(far.BAD4), 0)


class HookProgramTest(case.Case):
    """oakum-hook by itself."""

    def hook(self, *args, stdin="{}"):
        return proc.run([env.program("oakum-hook"), *args], check=False, stdin=stdin)

    def test_nothing_is_printed_when_it_fails(self):
        config = os.path.join(self.directory, "config.json")
        with open(config, "w", encoding="utf-8") as out:
            json.dump({"socket": self.directory + "/nobody.sock",
                       "policy": self.directory + "/none"}, out)
        for args, message in ((["--config", config], "/none"),
                              (["--config", config + ".none"], "config.json.none"),
                              (["--bad"], 'unknown argument "--bad"')):
            result = self.hook(*args)
            self.assertNotEqual(result.returncode, 0)
            self.assertEqual(result.stdout, "")
            self.assertEqual(len(result.stderr.splitlines()), 1, result)
            self.assertIn(message, result.stderr)

    def test_errors_reach_syslog(self):
        path = os.path.join(self.directory, "log.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.bind(path)
            log.settimeout(5)
            proc.run([env.tool("unshare"), "-m", "--propagation", "private", "sh", "-c",
                      f'mount -t tmpfs none /dev && ln -s {path} /dev/log && exec "$@"', "sh",
                      env.program("oakum-hook"), "--config", "/nonexistent"], check=False)
            message = log.recv(4096).decode()
        self.assertIn("oakum-hook", message)
        self.assertIn("/nonexistent", message)

    def test_a_full_pipe_is_an_error(self):
        fixture = guarded.Fixture(type(self), "runc")
        with open("/dev/full", "wb") as full:
            process = proc.subprocess.run(
                [env.program("oakum-hook"), "--config", fixture.configs["good"]],
                input=b'{"linux":{}}', stdout=full, stderr=proc.subprocess.PIPE, check=False)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn(b"standard output", process.stderr)


if __name__ == "__main__":
    case.main()
