"""containerd's `ctr run --runc-binary`."""
import os

from lib import case, containerd, env, guarded, rootfs


class ContainerdAdapter:
    SHOWS_MESSAGE = True

    def __init__(self, fixture):
        self.fixture = fixture
        archive = rootfs.pack_oci_image(
            fixture.archive, os.path.join(fixture.directory, "image.tar"), containerd.IMAGE)
        # The shim gives the runtime containerd's environment.
        self.engine = containerd.Containerd(
            fixture.directory, image_archive=archive,
            environment={"OAKUM_CONFIG": fixture.configs["good"]})
        self._binaries = {"good": env.program("oakum-runtime")}
        for label, config in fixture.configs.items():
            if label != "good":
                self._binaries[label] = os.path.join(fixture.directory, f"oakum-runtime-{label}")
                with open(self._binaries[label], "w", encoding="utf-8") as out:
                    out.write(f'#!/bin/sh\nexec {env.program("oakum-runtime")} '
                              f'--oakum-config={config} "$@"\n')
                os.chmod(self._binaries[label], 0o755)
        self._count = 0

    def run(self, args, guarded=True, config="good", policy=None, check=True):
        self._count += 1
        annotation = ["--annotation", f"io.oakum.policy={policy}"] if policy else []
        return self.engine.run(f"oakum-{os.getpid()}-{self._count}", *args, options=annotation,
                               netns=self.fixture.far.netns, check=check,
                               binary=self._binaries[config] if guarded else None)

    def start(self, name, args, config="good", shared=None):
        mount = ["--mount", f"type=bind,src={shared},dst=/shared,options=rbind:rw"] if shared else []
        self.engine.start(name, *args, netns=self.fixture.far.netns, options=mount,
                          binary=self._binaries[config])

    def exec(self, name, args, check=True):
        return self.engine.exec(name, *args, check=check)

    def remove(self, name):
        self.engine.remove(name)


class ContainerdTest(guarded.GuardedContainers, case.Case):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fixture = guarded.Fixture(cls, "runc")
        cls.adapter = ContainerdAdapter(cls.fixture)
        cls.addClassCleanup(cls.adapter.engine.close)

    def test_with_containerds_own_profile_it_is_guarded_as_well(self):
        far = self.far
        far.reset()
        steps = self.adapter.engine.run_probe(
            f"oakum-{os.getpid()}-profile", f"tcp {far.BAD4} 80 hello", f"tcp {far.GOOD4} 80 hello",
            netns=far.netns, binary=env.program("oakum-runtime"), options=["--seccomp"])
        self.assertFailed(steps[0], "EACCES")
        self.assertWorked(steps[1])
        self.assertEqual(far.packets(far.BAD4), 0)


if __name__ == "__main__":
    case.main()
