"""podman with storage of its own and an image made on the spot."""
import json
import os

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
    """runtime: "runc" or "crun", or a path. hooks_dir: given as --hooks-dir. global_options go
    before the podman command. mount_prefix: a command that every call runs under."""

    def __init__(self, directory, *, runtime="runc", hooks_dir=None, global_options=(),
                 mount_prefix=(), rootfs_archive):
        self._base = os.path.join(directory, f"podman-{os.path.basename(runtime)}")
        self._containers = []
        self._namespace = MountNamespace(directory)
        prefix = [*self._namespace.prefix(), *mount_prefix]
        self._command = [
            *prefix, env.tool("podman"), "--root", self._base + "/root", "--runroot",
            self._base + "/run", "--tmpdir", self._base + "/tmp", "--cgroup-manager", "cgroupfs",
            "--events-backend", "file", "--runtime", runtime]
        self._hooks = ["--hooks-dir", hooks_dir] if hooks_dir else []
        self._global = list(global_options)
        self.podman("import", rootfs_archive, IMAGE)

    def command(self):
        """What stands before a podman command: the program and where its storage is."""
        return list(self._command)

    def podman(self, *args, guarded=True, **options):
        """Any podman command; guarded=False leaves the hooks out."""
        hooks = self._hooks if guarded else []
        return run([*self._command, *(self._global if guarded else []), *hooks, *args], **options)

    def run(self, *args, netns=None, options=(), guarded=True, image=IMAGE, **run_options):
        """podman run --rm; args are the program and its arguments."""
        network = ["--network", f"ns:{netns}" if netns else "none"]
        return self.podman("run", "--rm", *LIMITS, *network, *options, image, *args,
                           guarded=guarded, **run_options)

    def run_probe(self, *steps, **options):
        return parse_probe(self.run("/bin/probe", *steps, **options).stdout)

    def start(self, name, *args, netns=None, options=()):
        """podman run --detach."""
        network = ["--network", f"ns:{netns}" if netns else "none"]
        self._containers.append(name)
        self.podman("run", "--detach", "--name", name, *LIMITS, *network, *options, IMAGE, *args)
        return name

    def exec(self, name, *args, **options):
        return self.podman("exec", name, *args, **options)

    def remove(self, name):
        self.podman("rm", "--force", "--time", "0", name, check=False)

    def close(self):
        for name in self._containers:
            self.remove(name)
        self.podman("rm", "--all", "--force", "--time", "0", check=False, guarded=False)
        self.podman("rmi", "--all", "--force", check=False, guarded=False)
        # The overlay driver keeps its home mounted on itself.
        run([*self._namespace.prefix(), env.tool("umount"), self._base + "/root/overlay"],
            check=False)
        self._namespace.close()
