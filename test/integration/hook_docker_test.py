"""Docker with oakum-runtime in daemon.json."""
import json

from lib import case, docker, env, guarded


class DockerAdapter:
    SHOWS_MESSAGE = True

    def __init__(self, fixture):
        self.engine = docker.Docker(
            fixture.directory, fixture.far, rootfs_archive=fixture.archive,
            runtimes={f"oakum-{label}": {"path": env.program("oakum-runtime"),
                                         "runtimeArgs": [f"--oakum-config={config}"]}
                      for label, config in fixture.configs.items()})
        self._count = 0

    def run(self, args, guarded=True, config="good", policy=None, check=True, options=()):
        options = list(options)
        if policy == "audit":
            options += ["--label", "test.policy=audit"]
        elif policy is not None:
            self._count += 1
            options += ["--name", f"{policy}-{self._count}"]
        return self.engine.run(*args, runtime=f"oakum-{config}" if guarded else None,
                               options=options, check=check)

    def start(self, name, args, config="good", shared=None):
        volume = ["--volume", f"{shared}:/shared"] if shared else []
        self.engine.start(name, *args, runtime=f"oakum-{config}", options=volume)

    def exec(self, name, args, check=True):
        return self.engine.exec(name, *args, check=check)

    def remove(self, name):
        self.engine.remove(name)


class DockerTest(guarded.GuardedContainers, case.Case):
    ANNOTATIONS = False  # Docker 20.10 has none

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fixture = guarded.Fixture(cls, "runc")
        cls.adapter = DockerAdapter(cls.fixture)
        cls.addClassCleanup(cls.adapter.engine.close)

    def test_the_event_names_the_container(self):
        self.adapter.run(["/bin/probe", f"tcp {self.far.BAD4} 80"], options=["--name", "named"])
        event = self.fixture.agent.wait_events(1, container__name="named")[0]
        self.assertEqual(event["container"]["image"]["name"], f"docker.io/{docker.IMAGE}")

    def test_unconfined_and_privileged_containers_are_guarded_as_well(self):
        far = self.far
        ways = [["--security-opt", "seccomp=unconfined"]]
        # runc cannot give a container what it does not have itself.
        if env.has_all_capabilities():
            ways.append(["--privileged"])
        for options in ways:
            with self.subTest(options=options):
                far.reset()
                result = self.adapter.run(["/bin/probe", f"tcp {far.BAD4} 80 hello"],
                                          options=options)
                self.assertFailed(json.loads(result.stdout), "EACCES")
                self.assertEqual(far.packets(far.BAD4), 0)

    def test_a_second_start_is_guarded_as_well(self):
        far = self.far
        self.adapter.start("oakum-again", ["/bin/probe", f"tcp {far.BAD4} 80 hello"])
        self.addCleanup(self.adapter.remove, "oakum-again")
        self.adapter.engine.docker("wait", "oakum-again")
        far.reset()
        self.adapter.engine.docker("start", "--attach", "oakum-again")
        steps = self.adapter.engine.docker("logs", "oakum-again").stdout.splitlines()
        self.assertEqual(len(steps), 2)
        self.assertFailed(json.loads(steps[1]), "EACCES")
        self.assertEqual(far.packets(far.BAD4), 0)


if __name__ == "__main__":
    case.main()
