"""Every example in examples/ is run by the program that it is for, or read by it.

The files are used as they are, but for the places of things: /usr/bin becomes the build folder and
/etc/oakum a configuration of the test's own.
"""
import json
import os
import re
import shutil
import tempfile
import unittest

from lib import agent as agents
from lib import bundle, case, containerd, docker, env, network, podman, rootfs, runtime
from lib.proc import run

EXAMPLES = os.path.join(env.SOURCE_DIR, "examples")
POLICIES = ("audit", "deny", "allow-list")


def example(*path):
    with open(os.path.join(EXAMPLES, *path), encoding="utf-8") as file:
        return file.read()


def relocated(text, config=None):
    """An example with our programs' real place in it, and for the hook its configuration."""
    text = text.replace("/usr/bin/oakum-", env.BIN_DIR + "/oakum-")
    if config is not None:
        text = text.replace('"args": ["oakum-hook"]',
                            f'"args": ["oakum-hook", "--config", "{config}"]')
    return text


class PolicyExamples(case.Case):
    """audit, deny and allow-list, each with runc, podman and Docker, seen from the far side."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))
        cls.archive = rootfs.pack_rootfs(cls.rootfs, os.path.join(cls.directory, "rootfs.tar"))
        cls.agents = {}
        for name in POLICIES:
            guard = agents.Agent(cls.directory, example("policies", f"{name}.jsonc"))
            cls.addClassCleanup(guard.stop)
            cls.agents[name] = guard.start()

    def check(self, name, run_probe, far=None):
        """run_probe(*steps) runs the probe in a guarded container that sees `far`."""
        guard = self.agents[name]
        far = far or self.far
        far.reset()
        before = len(guard.events())
        good, bad = run_probe(f"tcp {far.GOOD4} 443 hello", f"tcp {far.BAD4} 80 hello")
        open_to_good, open_to_bad = {"audit": (True, True), "deny": (False, False),
                                     "allow-list": (True, False)}[name]
        for step, address, is_open in ((good, far.GOOD4, open_to_good),
                                       (bad, far.BAD4, open_to_bad)):
            if is_open:
                self.assertWorked(step)
                self.assertGreaterEqual(far.packets(address), 3)
            else:
                self.assertFailed(step, "EACCES")
                self.assertEqual(far.packets(address), 0)
        guard.wait_events(1, destination__ip=far.BAD4)
        leaks = [event for event in guard.events()[before:]
                 if agents.field(event, "oakum.leak")
                 and agents.field(event, "destination.ip") == far.BAD4]
        self.assertTrue(leaks, guard.events()[before:])
        self.assertEqual(agents.field(leaks[0], "oakum.verdict"),
                         "audit" if name == "audit" else "deny")

    def test_the_far_side_is_reachable_without_oakum(self):
        engine = runtime.Runtime("runc", self.directory)
        self.addCleanup(engine.close)
        for step in self.probe_with(engine)(f"tcp {self.far.GOOD4} 443 hello",
                                            f"tcp {self.far.BAD4} 80 hello"):
            self.assertWorked(step)

    def probe_with(self, engine):
        def run_probe(*steps):
            path = os.path.join(self.directory, engine.new_id())
            config = bundle.make_config(self.rootfs, ["/bin/probe", *steps], netns=self.far.netns)
            return engine.run_probe(bundle.make_bundle(path, config))

        return run_probe

    def test_runc(self):
        for name in POLICIES:
            with self.subTest(policy=name):
                engine = runtime.Runtime("runc", self.directory, config=self.agents[name].config)
                self.addCleanup(engine.close)
                self.check(name, self.probe_with(engine))

    def short_directory(self):
        """podman takes no runroot of more than 50 characters."""
        return tempfile.mkdtemp(prefix="p", dir=self.directory)

    def podman_conf(self, name):
        """The drop-in, with the hook's description in the test's own folder."""
        hooks = os.path.join(self.directory, f"hooks-{name}")
        os.makedirs(hooks)
        with open(os.path.join(hooks, "oakum.json"), "w", encoding="utf-8") as out:
            out.write(relocated(example("podman", "oakum.json"), self.agents[name].config))
        conf = os.path.join(self.directory, f"podman-{name}.conf")
        text = example("podman", "containers.conf").replace("/usr/share/oakum/hooks.d", hooks)
        with open(conf, "w", encoding="utf-8") as out:
            out.write(text)
        return hooks, conf

    def test_podman(self):
        for name in POLICIES:
            hooks, conf = self.podman_conf(name)
            for way, options in (
                    ("--hooks-dir", {"hooks_dir": hooks}),
                    ("containers.conf", {"mount_prefix": ["env", f"CONTAINERS_CONF={conf}"]})):
                if way == "containers.conf" and name != "deny":
                    continue
                with self.subTest(policy=name, way=way):
                    engine = podman.Podman(self.short_directory(), rootfs_archive=self.archive,
                                           **options)
                    self.addCleanup(engine.close)
                    self.check(name, lambda *steps, engine=engine: engine.run_probe(
                        *steps, netns=self.far.netns))

    def test_docker(self):
        far = network.FarSide(self.directory)
        self.addCleanup(far.close)
        # "oakum" as in the example, which reads the daemon's OAKUM_CONFIG here, and others beside it.
        runtimes = json.loads(relocated(example("docker", "daemon.json")))["runtimes"]
        names = {"deny": "oakum"}
        for name in ("audit", "allow-list"):
            names[name] = f"oakum-{name}"
            runtimes[names[name]] = {
                **runtimes["oakum"],
                "runtimeArgs": [f"--oakum-config={self.agents[name].config}"]}
        engine = docker.Docker(self.directory, far, runtimes=runtimes,
                               environment={"OAKUM_CONFIG": self.agents["deny"].config},
                               rootfs_archive=self.archive)
        self.addCleanup(engine.close)
        for name in POLICIES:
            with self.subTest(policy=name):
                self.check(name, lambda *steps, name=name: engine.run_probe(
                    *steps, runtime=names[name]), far)

    def test_containerd(self):
        archive = rootfs.pack_oci_image(self.archive, os.path.join(self.directory, "image.tar"),
                                        containerd.IMAGE)
        binary = re.search(r'BinaryName = "(.*)"',
                           relocated(example("containerd", "config.toml"))).group(1)
        engine = containerd.Containerd(
            self.directory, image_archive=archive,
            environment={"OAKUM_CONFIG": self.agents["deny"].config})
        self.addCleanup(engine.close)
        self.check("deny", lambda *steps: engine.run_probe(
            "oakum-example", *steps, netns=self.far.netns, binary=binary))

    def test_ci(self):
        base = self.short_directory()
        engine = podman.Podman(base, rootfs_archive=self.archive)
        self.addCleanup(engine.close)
        # The script calls podman by name: a podman that has the test's storage.
        tools = os.path.join(base, "tools")
        os.makedirs(tools)
        with open(os.path.join(tools, "podman"), "w", encoding="utf-8") as out:
            out.write(f"#!/bin/sh\nexec {' '.join(engine.command())} \"$@\"\n")
        os.chmod(os.path.join(tools, "podman"), 0o755)
        environment = env.clean_environment(
            PATH=f"{tools}:{env.BIN_DIR}:{env.SYSTEM_PATH}",
            RUN_OPTIONS=" ".join([*podman.LIMITS, "--network", f"ns:{self.far.netns}"]))
        script = os.path.join(EXAMPLES, "ci/check-image")

        def check_image(*args, **options):
            return run([script, podman.IMAGE, *args], check=False, environment=environment,
                       **options)

        quiet = check_image("/bin/true")
        self.assertEqual(quiet.returncode, 0, quiet)
        leaky = check_image("/bin/probe", f"tcp {self.far.BAD4} 80 hello")
        self.assertEqual(leaky.returncode, 1, leaky)
        self.assertIn(self.far.BAD4, leaky.stderr)
        broken = check_image("/bin/does-not-exist")
        self.assertEqual(broken.returncode, 2, broken)


class Files(case.Case):
    """What no test can run here is at least read."""

    def test_policies_load(self):
        policies = os.path.join(EXAMPLES, "policies")
        names = {name for name in os.listdir(policies) if name.endswith(".jsonc")}
        # redirect_run_options_test.py runs the last two.
        self.assertEqual(names, {f"{name}.jsonc" for name in (*POLICIES, "redirect", "names")})
        for name in names:
            run([env.program("oakum"), "policy", "check", os.path.join(policies, name)])

    def test_containerd_takes_its_section(self):
        path = os.path.join(self.directory, "config.toml")
        shutil.copy(os.path.join(EXAMPLES, "containerd/config.toml"), path)
        dump = run([env.tool("containerd"), "--config", path, "config", "dump"]).stdout
        self.assertIn('[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oakum]', dump)
        self.assertIn('BinaryName = "/usr/bin/oakum-runtime"', dump)

    def test_crio_section_is_toml(self):
        import tomllib

        section = tomllib.loads(example("crio", "50-oakum.conf"))
        handler = section["crio"]["runtime"]["runtimes"]["oakum"]
        self.assertEqual(handler["runtime_path"], "/usr/bin/oakum-runtime")
        self.assertEqual(handler["runtime_type"], "oci")

    def test_podman_files_are_those_of_the_package(self):
        packaged = os.path.join(env.SOURCE_DIR, "packaging/hooks.d/oakum.json.in")
        with open(packaged, encoding="utf-8") as file:
            self.assertEqual(file.read().replace("@bindir@", "/usr/bin"),
                             example("podman", "oakum.json"))

    def load_yaml(self, *path):
        try:
            import yaml
        except ImportError:
            raise unittest.SkipTest("python3-yaml is not installed") from None
        return [document for document in yaml.safe_load_all(example(*path)) if document]

    def test_kubernetes(self):
        runtime_class, = self.load_yaml("kubernetes", "runtimeclass.yaml")
        pod, = self.load_yaml("kubernetes", "pod.yaml")
        documents = {d["kind"]: d for d in self.load_yaml("kubernetes", "daemonset.yaml")}
        self.assertEqual(pod["spec"]["runtimeClassName"], runtime_class["metadata"]["name"])
        self.assertIn(f'runtimes.{runtime_class["handler"]}]', example("containerd", "config.toml"))
        self.assertIn(f'runtimes.{runtime_class["handler"]}]', example("crio", "50-oakum.conf"))
        daemon_set = documents["DaemonSet"]["spec"]
        template = daemon_set["template"]
        self.assertEqual(daemon_set["selector"]["matchLabels"], template["metadata"]["labels"])
        self.assertTrue(template["spec"]["hostPID"])
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in template["spec"]["initContainers"] + template["spec"]["containers"]:
            for mount in container["volumeMounts"]:
                self.assertIn(mount["name"], volumes)
        self.assertEqual(template["spec"]["nodeSelector"],
                         runtime_class["scheduling"]["nodeSelector"])
        for name, text in documents["ConfigMap"]["data"].items():
            path = os.path.join(self.directory, name)
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
            run([env.program("oakum"), "policy", "check", path])

    def test_ci_jobs_are_yaml(self):
        self.assertIn("jobs", self.load_yaml("ci", "github.yml")[0])
        self.assertIn("phone-home", self.load_yaml("ci", "gitlab.yml")[0])


if __name__ == "__main__":
    case.main()
