"""containerd with a root of its own, driven by ctr."""
import os
import tempfile

from . import env
from .proc import Process, run
from .runtime import parse_probe

IMAGE = "localhost/oakum/test:1"


class Containerd:
    """image_archive: an OCI archive whose image is called IMAGE. environment: what the daemon, and
    so its shims and their runtime, get beside PATH and HOME."""

    def __init__(self, directory, *, image_archive, environment=None):
        self._base = tempfile.mkdtemp(prefix="oakct", dir=directory)
        self._socket = os.path.join(self._base, "containerd.sock")
        self._ctr = [env.tool("ctr"), "--address", self._socket]
        self._names = []
        config = os.path.join(self._base, "config.toml")
        with open(config, "w", encoding="utf-8") as out:
            out.write(f'version = 2\nroot = "{self._base}/root"\nstate = "{self._base}/state"\n'
                      'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                      f'[grpc]\naddress = "{self._socket}"\n')
        self._daemon = Process([env.tool("containerd"), "--config", config],
                               os.path.join(self._base, "containerd.log"),
                               environment=env.clean_environment(**(environment or {})))
        try:
            self._daemon.wait_for(lambda: self.ctr("version", check=False).returncode == 0, 30,
                                  "containerd answers")
            self.ctr("images", "import", image_archive)
        except BaseException:
            self.close()
            raise

    def ctr(self, *args, **options):
        return run([*self._ctr, *args], **options)

    def run(self, name, *args, netns=None, binary=None, options=(), **run_options):
        """ctr run --rm with --runc-binary when `binary` is given."""
        chosen = ["--runc-binary", binary] if binary else []
        network = ["--with-ns", f"network:{netns}"] if netns else []
        return self.ctr("run", "--rm", *chosen, *network, *options, IMAGE, name, *args,
                        **run_options)

    def run_probe(self, name, *steps, **options):
        return parse_probe(self.run(name, "/bin/probe", *steps, **options).stdout)

    def start(self, name, *args, netns=None, binary=None, options=()):
        chosen = ["--runc-binary", binary] if binary else []
        network = ["--with-ns", f"network:{netns}"] if netns else []
        self._names.append(name)
        self.ctr("run", "--detach", *chosen, *network, *options, IMAGE, name, *args)
        return name

    def exec(self, name, *args, **options):
        return self.ctr("tasks", "exec", "--exec-id", f"{name}-{os.urandom(4).hex()}", name, *args,
                        **options)

    def remove(self, name):
        self.ctr("tasks", "kill", "--signal", "SIGKILL", name, check=False)
        self.ctr("tasks", "delete", "--force", name, check=False)
        self.ctr("containers", "delete", name, check=False)

    def close(self):
        for name in self._names:
            self.remove(name)
        self._daemon.stop(timeout=20)
