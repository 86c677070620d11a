"""podman with storage of its own and an image made on the spot."""
import json
import os
import shutil
import tempfile

from . import env
from .proc import run
from .runtime import MountNamespace, parse_probe

IMAGE = "localhost/oakum/test:1"
# Without CAP_SYS_RESOURCE the default limits cannot be raised.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")


def write_hook(directory, config, program=None):
    """A hooks directory with our precreate hook for every container. Returns the directory."""
    os.makedirs(directory, exist_ok=True)
    program = program or env.program("oakum-hook")
    with open(os.path.join(directory, "oakum.json"), "w", encoding="utf-8") as out:
        json.dump({"version": "1.0.0", "stages": ["precreate"], "when": {"always": True},
                   "hook": {"path": program, "args": ["oakum-hook", "--config", config]}}, out)
    return directory


class Podman:
    """runtime: "runc" or "crun", or a path. hooks_dir: given as --hooks-dir. mount_prefix: a command
    that every call runs under. `before` of the methods: global options instead of --hooks-dir."""

    def __init__(self, directory, *, runtime="runc", hooks_dir=None, mount_prefix=(),
                 rootfs_archive):
        # podman takes at most 50 characters of --runroot: not below `directory`.
        self._base = tempfile.mkdtemp(prefix="oakpm")
        self._started = {}
        self._namespace = MountNamespace(directory)
        self._before = ["--hooks-dir", hooks_dir] if hooks_dir else []
        self._command = [
            *self._namespace.prefix(), *mount_prefix, env.tool("podman"), "--root",
            self._base + "/root", "--runroot", self._base + "/run", "--tmpdir", self._base + "/tmp",
            "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", runtime]
        try:
            self.podman("import", rootfs_archive, IMAGE)
        except BaseException:
            self.close()
            raise

    def command(self):
        """What stands before a podman command: the program and where its storage is."""
        return list(self._command)

    def podman(self, *args, before=None, **options):
        """Any podman command."""
        before = self._before if before is None else before
        return run([*self._command, *before, *args], **options)

    def run(self, *args, netns=None, options=(), before=None, **run_options):
        """podman run --rm; args are the program and its arguments."""
        network = ["--network", f"ns:{netns}" if netns else "none"]
        return self.podman("run", "--rm", *LIMITS, *network, *options, IMAGE, *args,
                           before=before, **run_options)

    def run_probe(self, *steps, **options):
        return parse_probe(self.run("/bin/probe", *steps, **options).stdout)

    def start(self, name, *args, netns=None, options=(), before=None):
        """podman run --detach."""
        network = ["--network", f"ns:{netns}" if netns else "none"]
        self._started[name] = before
        self.podman("run", "--detach", "--name", name, *LIMITS, *network, *options, IMAGE, *args,
                    before=before)
        return name

    def exec(self, name, *args, **options):
        return self.podman("exec", name, *args, before=self._started[name], **options)

    def remove(self, name):
        self.podman("rm", "--force", "--time", "0", name, before=self._started.pop(name, None),
                    check=False)

    def close(self):
        for name in list(self._started):
            self.remove(name)
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        # The overlay driver keeps its home mounted on itself.
        run([*self._namespace.prefix(), env.tool("umount"), self._base + "/root/overlay"],
            check=False)
        self._namespace.close()
        shutil.rmtree(self._base, ignore_errors=True)
