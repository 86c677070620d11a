"""A user made for a test, with rootless podman: subordinate ids, a home and an XDG_RUNTIME_DIR of its
own, in a mount namespace where devices and cgroups are as on a desktop."""
import itertools
import os
import pwd
import shutil
import signal
import tempfile
import time

from . import env
from .proc import CommandFailed, Process, run, wait_until

_IDS = itertools.count()
IMAGE = "localhost/oakum/rootless:1"
_SUB_IDS = 65_536
# The machine may keep these devices to root, and crun refuses hybrid cgroups; nothing of this is seen
# outside. podman wants a shared root.
_PREPARE = """
set -e
uid=$1 base=$2
mount -t tmpfs -o mode=755 none /run/user
mkdir -m 700 "/run/user/$uid"
chown "$uid" "/run/user/$uid"
mount -t tmpfs -o mode=755 none /dev/net
mknod -m 666 /dev/net/tun c 10 200
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
mount --make-rshared /
touch "$base/ready"
exec sleep 86400
"""
_CONTAINERS_CONF = """[containers]
default_sysctls = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class User:
    """close() takes everything away again, the user included."""

    def __init__(self, rootfs_archive):
        # Homes of others are nobody's to see, and podman's paths are short.
        self.base = tempfile.mkdtemp(prefix="oakrl")
        os.chmod(self.base, 0o755)
        self.name = f"oak{os.getpid()}r{next(_IDS)}"
        self.home = os.path.join(self.base, "home")
        self._holder = None
        try:
            self._add()
            self.uid = pwd.getpwnam(self.name).pw_uid
            # Whose a directory in /tmp is that belongs to the machine's root cannot be told in podman's
            # user namespace, so that nothing there is believed.
            os.chown(self.base, self.uid, -1)
            self.runtime_dir = f"/run/user/{self.uid}"
            self._holder = Process(
                [env.tool("unshare"), "-m", "--propagation", "private", "sh", "-c", _PREPARE, "sh",
                 self.uid, self.base], os.path.join(self.base, "holder.log"))
            self._holder.wait_for(lambda: os.path.exists(os.path.join(self.base, "ready")), 30,
                                  "the mount namespace is made")
            self.write(".config/containers/containers.conf", _CONTAINERS_CONF)
            archive = os.path.join(self.base, "image.tar")
            shutil.copy(rootfs_archive, archive)
            os.chmod(archive, 0o644)
            self.podman("import", archive, IMAGE)
        except BaseException:
            self.close()
            raise

    def _add(self):
        # Others may be adding users: the files are locked meanwhile (shadow(5)).
        command = [env.tool("useradd"), "--create-home", "--home-dir", self.home, "--shell",
                   "/bin/sh", self.name]
        for attempt in range(10):
            try:
                run(command)
                break
            except CommandFailed:
                if attempt == 9:
                    raise
                time.sleep(0.5)
        for kind in ("uid", "gid"):
            with open(f"/etc/sub{kind}", encoding="ascii") as lines:
                ranges = [line.strip().split(":") for line in lines if ":" in line]
            if not any(owner == self.name for owner, _, _ in ranges):
                start = max([100_000, *(int(first) + int(count) for _, first, count in ranges)])
                run([env.tool("usermod"), f"--add-sub{kind}s", f"{start}-{start + _SUB_IDS - 1}",
                     self.name])

    def environment(self):
        return {"PATH": env.SYSTEM_PATH, "HOME": self.home, "USER": self.name, "LANG": "C.UTF-8",
                "XDG_RUNTIME_DIR": self.runtime_dir}

    def command(self, *args, uid=None):
        """A command line that runs as this user, or as another one in the same place."""
        uid = self.uid if uid is None else uid
        return [env.tool("nsenter"), "-t", str(self._holder.pid), "-m", "--", env.tool("setpriv"),
                "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--inh-caps=-all",
                *map(str, args)]

    def run(self, *args, uid=None, **options):
        return run(self.command(*args, uid=uid), environment=self.environment(), cwd=self.base,
                   **options)

    def start(self, *args, log):
        return Process(self.command(*args), log, environment=self.environment(), cwd=self.base)

    def podman(self, *args, **options):
        return self.run(env.tool("podman"), *args, **options)

    def write(self, path, text):
        """A file below the user's home."""
        path = os.path.join(self.home, path)
        missing = os.path.dirname(path)
        while not os.path.exists(missing):
            missing = os.path.dirname(missing)
        first = os.path.relpath(path, missing).split("/", maxsplit=1)[0]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        run(["chown", "-R", f"{self.name}:", os.path.join(missing, first)])
        return path

    def processes(self, program=None):
        """Pids of the user's processes; program: of this executable only, under its own name."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/status", encoding="utf-8") as lines:
                    uid = next(line.split()[1] for line in lines if line.startswith("Uid:"))
                executable = os.readlink(f"/proc/{entry}/exe")
                with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as line:
                    name = line.read().rstrip("\n")
            except (OSError, StopIteration):
                continue
            if int(uid) == self.uid and (program is None or (
                    program == executable and name == os.path.basename(program)[:15])):
                found.append(int(entry))
        return found

    def close(self):
        if self._holder is not None:
            if self._holder.running():
                self.podman("rm", "--all", "--force", "--time", "0", check=False)
            for pid in self.processes():  # podman's that keeps the namespaces, for one
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not self.processes(), 30, "the user's processes are gone")
            self._holder.stop()
        run([env.tool("userdel"), self.name], check=False)
        shutil.rmtree(self.base, ignore_errors=True)
