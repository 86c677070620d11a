"""The .deb builds, holds the right files in the right places, and its programs run."""

import json
import os
import pathlib
import re
import subprocess
import tempfile

from lib import agent as agents
from lib import bundle, case, env, network, rootfs, runtime
from lib.proc import Process

SOURCE = pathlib.Path(os.environ["OAKUM_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["OAKUM_BIN_DIR"]).parent
PROGRAMS = ["oakum", "oakum-agent", "oakum-hook", "oakum-runtime"]


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                            **options)
    if result.returncode != 0:
        raise AssertionError(f"{command}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


class Package(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        work = pathlib.Path(cls.directory, "deb")
        work.mkdir()
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", work, cwd=work)
        (cls.deb,) = work.glob("*.deb")
        cls.root = work / "root"
        run("dpkg", "-x", cls.deb, cls.root)

    def unit(self, name="oakum-agent"):
        return (self.root / f"usr/lib/systemd/system/{name}.service").read_text()

    def test_name_and_dependencies(self):
        self.assertRegex(self.deb.name, r"^oakum_\d+\.\d+\.\d+_\w+\.deb$")
        depends = run("dpkg-deb", "--field", self.deb, "Depends")
        for library in ["libseccomp2", "libc6"]:
            self.assertIn(library, depends)
        self.assertNotIn("-dev", depends)

    def test_files_are_where_distributions_put_them(self):
        expected = [f"usr/bin/{program}" for program in PROGRAMS] + [
            "etc/oakum/config.json",
            "etc/oakum/policy.d/50-default.jsonc",
            "etc/logrotate.d/oakum",
            "usr/lib/systemd/system/oakum-agent.service",
            "usr/lib/systemd/system/oakum-keeper.service",
            "usr/lib/systemd/user/oakum-agent.service",
            "usr/lib/systemd/user/oakum-keeper.service",
            "usr/libexec/oakum/podman-exec",
            "usr/share/oakum/hooks.d/oakum.json",
            "usr/share/oakum/podman.conf",
            "usr/share/doc/oakum/copyright",
            "usr/share/doc/oakum/README.md",
            "usr/share/man/man1/oakum.1",
            "usr/share/man/man5/oakum-policy.5",
            "usr/share/man/man8/oakum-agent.8",
            "usr/share/man/man8/oakum-hook.8",
            "usr/share/man/man8/oakum-runtime.8",
        ]
        for name in expected:
            with self.subTest(name=name):
                self.assertTrue((self.root / name).is_file())
        self.assertTrue(os.access(
            self.root / "usr/share/doc/oakum/examples/ci/check-image", os.X_OK))
        # CRI-O reads this one too, and refuses to start on a precreate hook.
        self.assertFalse((self.root / "usr/share/containers").exists())

    def test_programs_run(self):
        for program in PROGRAMS:
            if program == "oakum-runtime":  # its --version is the real runtime's
                continue
            with self.subTest(program=program):
                self.assertRegex(run(self.root / "usr/bin" / program, "--version"), r"\d+\.\d+\.\d+")

    def test_the_default_configuration_is_good(self):
        config = json.loads((self.root / "etc/oakum/config.json").read_text())
        self.assertEqual(set(config), {"runtime", "socket", "policy"})
        run(self.root / "usr/bin/oakum", "policy", "check",
            str(self.root) + config["policy"])

    def test_generated_files_name_installed_programs(self):
        hook = json.loads((self.root / "usr/share/oakum/hooks.d/oakum.json").read_text())
        self.assertEqual(hook["hook"]["path"], "/usr/bin/oakum-hook")
        self.assertEqual(hook["stages"], ["precreate"])
        self.assertIn("ExecStart=/usr/bin/oakum-agent ", self.unit())
        self.assertNotRegex(self.unit(), r"@\w+@")
        user = (self.root / "usr/lib/systemd/user/oakum-agent.service").read_text()
        self.assertIn("ExecStart=/usr/libexec/oakum/podman-exec /usr/bin/oakum-agent ", user)
        keeper = (self.root / "usr/lib/systemd/user/oakum-keeper.service").read_text()
        self.assertIn("ExecStart=/usr/bin/oakum-agent --keeper ", keeper)
        self.assertNotRegex(user + keeper, r"@\w+@")
        self.assertTrue(os.access(self.root / "usr/libexec/oakum/podman-exec", os.X_OK))
        conf = (self.root / "usr/share/oakum/podman.conf").read_text()
        self.assertIn('"/usr/share/oakum/hooks.d"]', conf)

    def test_logrotate_takes_its_file(self):
        with tempfile.TemporaryDirectory() as state:
            run("logrotate", "--debug", "--state", f"{state}/state",
                self.root / "etc/logrotate.d/oakum")

    def test_configuration_survives_an_upgrade(self):
        conffiles = run("dpkg-deb", "--info", self.deb, "conffiles")
        self.assertIn("/etc/oakum/config.json", conffiles)
        for name in conffiles.split():
            self.assertTrue((self.root / name.lstrip("/")).is_file(), name)

    def test_systemd_takes_the_units(self):
        for kind, name in (("system", "oakum-keeper"), ("system", "oakum-agent"),
                           ("user", "oakum-keeper"), ("user", "oakum-agent")):
            with self.subTest(kind=kind, name=name):
                place = os.path.join(self.directory, kind)
                os.makedirs(place, exist_ok=True)
                path = os.path.join(place, f"{name}.service")
                text = (self.root / f"usr/lib/systemd/{kind}/{name}.service").read_text()
                for folder in ("/usr/bin/oakum-agent", "/usr/libexec/oakum"):
                    text = text.replace(folder, str(self.root) + folder)
                with open(path, "w", encoding="utf-8") as out:
                    out.write(text)
                checked = subprocess.run(
                    ["systemd-analyze", f"--{kind}", "verify", "--man=no", path],
                    capture_output=True, text=True,
                    env={**os.environ, "XDG_RUNTIME_DIR": self.directory})
                complaints = [line for line in checked.stderr.split("\n") if "oakum-" in line]
                self.assertEqual(complaints, [])
                self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_the_unit_exposes_little(self):
        # Tenths. "OK" ends at 5; what is left is what a guard is for: docs/operations.md.
        for name, most in (("oakum-agent", 45), ("oakum-keeper", 15)):
            path = os.path.join(self.directory, f"{name}.service")
            with open(path, "w", encoding="utf-8") as out:
                out.write(self.unit(name))
            rated = subprocess.run(
                ["systemd-analyze", "security", "--offline=true", f"--threshold={most}",
                 "--no-pager", path], capture_output=True, text=True)
            self.assertEqual(rated.returncode, 0, rated.stdout + rated.stderr)

    def test_the_units_capabilities_are_enough(self):
        """The agent as the unit confines it: it guards, binds low ports for a container that may, and
        ends a container."""
        names = re.search(r"^CapabilityBoundingSet=(.*)$", self.unit(), re.MULTILINE).group(1)
        bounding = ",".join(["-all"] + ["+" + name.removeprefix("CAP_").lower()
                                        for name in names.split()])
        confined = [env.tool("setpriv"), "--no-new-privs", f"--bounding-set={bounding}"]
        far = network.FarSide(self.directory)
        self.addCleanup(far.close)
        root = rootfs.make_rootfs(os.path.join(self.directory, "rootfs"))
        rules = {"outgoing": {"default": "deny", "allow": [far.GOOD4]},
                 "incoming": {"default": "deny", "allow": ["0.0.0.0:80/tcp"]}}
        for mode in ("enforce", "kill"):
            guard = agents.Agent(self.directory, agents.single_policy({"mode": mode, **rules}))
            process = Process(
                [*confined, self.root / "usr/bin/oakum-agent", "--config", guard.config, "--events",
                 guard.events_path], guard.log_path)
            self.addCleanup(process.stop)
            process.wait_for(lambda: os.path.exists(guard.socket), 30, "the agent listens")
            engine = runtime.Runtime("runc", self.directory, config=guard.config)
            self.addCleanup(engine.close)
            path = os.path.join(self.directory, engine.new_id())
            bundle.make_bundle(path, bundle.make_config(
                root, ["/bin/probe", f"tcp {far.GOOD4} 443 hello", "socket 0 inet stream",
                       "bind 0 0.0.0.0 80", f"tcp {far.BAD4} 80 hello"], netns=far.netns))
            result = engine.run(path, check=False)
            steps = runtime.parse_probe(result.stdout)
            for step in steps[:3]:
                self.assertWorked(step)
            if mode == "enforce":
                self.assertFailed(steps[3], "EACCES")
            else:
                self.assertEqual(len(steps), 3, result)
                self.assertNotEqual(result.returncode, 0)


if __name__ == "__main__":
    case.main()
