"""dockerd with a data root of its own, inside the container side of a FarSide."""
import json
import os
import shutil
import tempfile

from . import env
from .proc import Process, run
from .runtime import parse_probe

IMAGE = "oakum/test:1"
_BRIDGE = "oakumbr0"


class Docker:
    """dockerd in the network namespace `far.inner`: with a bridge whose other port is the veth pair
    to the far side, so that containers are on the network as Docker puts them there.
    runtimes: the `runtimes` of daemon.json."""

    def __init__(self, directory, far, *, runtimes=None, environment=None, rootfs_archive):
        # A unix socket's path is at most 107 bytes long: a short directory of its own.
        self._base = tempfile.mkdtemp(prefix="oakdk", dir=directory)
        self._far = far
        self.socket = os.path.join(self._base, "docker.sock")
        self._client = [env.tool("docker"), "-H", f"unix://{self.socket}"]
        self._daemon = None
        self._containers = []
        daemon_json = {
            "data-root": self._base + "/data", "exec-root": self._base + "/exec",
            "pidfile": self._base + "/docker.pid", "hosts": [f"unix://{self.socket}"],
            "bridge": _BRIDGE, "fixed-cidr": "10.77.0.128/25", "default-gateway": far.GATEWAY4,
            "iptables": False, "ip6tables": False, "ip-masq": False, "ip-forward": False,
            "userland-proxy": False,
            "runtimes": runtimes or {},
            "default-ulimits": {
                "nofile": {"Name": "nofile", "Hard": 1024, "Soft": 1024},
                "nproc": {"Name": "nproc", "Hard": 1000, "Soft": 1000}},
        }
        config = os.path.join(self._base, "daemon.json")
        with open(config, "w", encoding="utf-8") as out:
            json.dump(daemon_json, out)
        try:
            self._make_bridge()
            self._daemon = Process(
                # Not `ip netns exec`: it mounts a /sys without cgroups.
                [env.tool("nsenter"), f"--net={far.netns}", env.tool("dockerd"), "--config-file",
                 config], os.path.join(self._base, "dockerd.log"),
                environment=env.clean_environment(**(environment or {})))
            self._daemon.wait_for(
                lambda: os.path.exists(self.socket)
                and self.docker("version", check=False).returncode == 0, 30, "dockerd answers")
            self.docker("import", rootfs_archive, IMAGE)
            far.wait_quiet()  # a bridge that comes up reports its groups twice
        except BaseException:
            self.close()
            raise

    def _make_bridge(self):
        far, ip = self._far, env.tool("ip")
        for args in (("link", "add", _BRIDGE, "type", "bridge"),
                     ("addr", "flush", "dev", "in0", "scope", "global"),
                     ("link", "set", "in0", "master", _BRIDGE),
                     ("addr", "add", f"{far.INNER4}/24", "dev", _BRIDGE),
                     ("link", "set", _BRIDGE, "up")):
            far.exec_inner(ip, *args)

    def docker(self, *args, **options):
        return run([*self._client, *args], **options)

    def run(self, *args, runtime=None, options=(), **run_options):
        """docker run --rm; args are the program and its arguments."""
        chosen = ["--runtime", runtime] if runtime else []
        return self.docker("run", "--rm", *chosen, *options, IMAGE, *args, **run_options)

    def run_probe(self, *steps, **options):
        return parse_probe(self.run("/bin/probe", *steps, **options).stdout)

    def start(self, name, *args, runtime=None, options=()):
        """docker run --detach."""
        chosen = ["--runtime", runtime] if runtime else []
        self._containers.append(name)
        self.docker("run", "--detach", "--name", name, *chosen, *options, IMAGE, *args)
        return name

    def exec(self, name, *args, **options):
        return self.docker("exec", name, *args, **options)

    def remove(self, name):
        self.docker("rm", "--force", name, check=False)

    def log(self):
        return self._daemon.output()

    def close(self):
        if self._daemon is not None:
            for name in self._containers:
                self.remove(name)
            self._daemon.stop(timeout=20)
        for name in ("data", "exec/netns/default"):
            path = os.path.join(self._base, name)
            while os.path.ismount(path):
                if run([env.tool("umount"), path], check=False).returncode != 0:
                    break
        shutil.rmtree(self._base, ignore_errors=True)
