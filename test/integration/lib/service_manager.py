"""A real systemd, as process 1 of namespaces of its own, and the agent as the service that is packaged."""
import itertools
import os
import shutil
import signal

from . import agent, env, proc

_IDS = itertools.count()
_CGROUPS = "/sys/fs/cgroup"

# CGROUPS...: what is started is in these. Of the machine's files nothing can be written to but what
# is beside DIRECTORY; /etc, /run, /tmp and /var/log are new, but for SOURCE and PROGRAMS where these
# are there.
_START = """
set -e
for cgroup in "$@"; do
    echo $$ > "$cgroup/cgroup.procs"
done
exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private sh -c '
set -e
mount -t proc proc /proc
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
new=/mnt
mount -t tmpfs -o mode=755 tmpfs "$new"
mkdir "$new/etc" "$new/run" "$new/log" "$new/tmp" "$new/test"
chmod 1777 "$new/tmp"
mount --bind "$(dirname "$0")" "$new/test"
for kept in "$SOURCE" "$PROGRAMS"; do
    mkdir -p "$new/kept$kept"
    mount --bind -o ro "$kept" "$new/kept$kept"
done
for file in passwd group nsswitch.conf ld.so.cache; do
    cp -a "/etc/$file" "$new/etc/"
done
echo 0123456789abcdef0123456789abcdef > "$new/etc/machine-id"
mkdir -p "$new/etc/systemd/system" "$new/etc/oakum" "$new/run/netns"
cp -a "$0/units/." "$new/etc/systemd/system/"
mount --rbind /run/netns "$new/run/netns"
mount -o remount,bind,ro /
mount --rbind "$new/etc" /etc
mount --rbind "$new/log" /var/log
mount --rbind "$new/run" /run
mount --rbind "$new/tmp" /tmp
mkdir -p "$(dirname "$0")"
mount --bind "$new/test" "$(dirname "$0")"
for kept in "$SOURCE" "$PROGRAMS"; do
    if [ ! -e "$kept" ]; then
        mkdir -p "$kept"
        mount --bind "$new/kept$kept" "$kept"
    fi
done
exec env -i container=oakum-test SYSTEMD_UNIT_PATH=/etc/systemd/system PATH="$PATH" \
    /lib/systemd/systemd --system --unit=test.target --show-status=no --log-target=console
' "$DIRECTORY"
"""

# What the units of services want to be there.
_TARGETS = ("sysinit", "basic", "shutdown", "network", "multi-user", "test")


class ServiceManager:
    """close() ends it and all that it runs."""

    def __init__(self, directory):
        number = next(_IDS)
        self.directory = os.path.join(directory, f"service-manager-{number}")
        self._cgroups = [os.path.join(path, f"oakum-test-{os.getpid()}-{number}") for path in
                         (_CGROUPS, f"{_CGROUPS}/unified", f"{_CGROUPS}/systemd")
                         if os.path.exists(f"{path}/cgroup.procs")]
        units = os.path.join(self.directory, "units")
        os.makedirs(units)
        for name in _TARGETS:
            agent.write_json(os.path.join(units, f"{name}.target"),
                             "[Unit]\nDefaultDependencies=no\n")
        for path in self._cgroups:
            os.mkdir(path)
        self.process = proc.Process(
            ["sh", "-c", _START, "sh", *self._cgroups], os.path.join(self.directory, "log"),
            environment=env.clean_environment(DIRECTORY=self.directory, SOURCE=env.SOURCE_DIR,
                                              PROGRAMS=env.BIN_DIR))
        try:
            self.process.wait_for(self._find, 20, "systemd is started")
            self.process.wait_for(
                lambda: self.systemctl("is-active", "test.target", check=False).returncode == 0,
                20, "systemd has started")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _find(self):
        """unshare's child."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children",
                  encoding="ascii") as children:
            words = children.read().split()
        self.pid = int(words[0]) if words else None
        return self.pid is not None

    def path(self, inside):
        """A path of a service's, seen from outside."""
        return f"/proc/{self.pid}/root{inside}"

    def prefix(self):
        """A command that runs another one beside the services."""
        join = "".join(f"echo $$ > {path}/cgroup.procs; " for path in self._cgroups)
        return ["sh", "-c", f'{join}exec "$@"', "sh", env.tool("nsenter"), "-t", str(self.pid),
                "-m", "-p", "-C", "-i", "-u", "--"]

    def systemctl(self, *args, check=True, timeout=60):
        return proc.run([env.tool("nsenter"), "-t", str(self.pid), "-m", "-p", "--", "systemctl",
                         *args], check=check, timeout=timeout)

    def show(self, unit, name):
        return self.systemctl("show", "--value", "-p", name, unit).stdout.strip()

    def log(self):
        return self.process.output()

    def add_unit(self, name, text):
        """Before it is started for the first time."""
        agent.write_json(self.path(f"/etc/systemd/system/{name}"), text)
        self.systemctl("daemon-reload")

    def close(self):
        self.process.stop(signal.SIGKILL)
        for path in self._cgroups:
            proc.wait_until(lambda: self._is_gone(path), 30, f"{path} is empty")

    @staticmethod
    def _is_gone(path):
        for below, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(below)
            except OSError:
                pass
        return not os.path.exists(path)


class Service(agent.Agent):
    """oakum-agent under the packaged units, of which only the program's place is another one.
    keeper: whether there is the one for its keeper."""

    UNIT, KEEPER = "oakum-agent.service", "oakum-keeper.service"

    def __init__(self, manager, policy, *, runtime="runc", keeper=True):
        self._manager, self.process = manager, manager.process
        self._binaries = itertools.count()
        os.makedirs(manager.path("/run/bin"))
        self.upgrade()
        self.socket = "/run/oakum/agent.sock"
        self.config = "/etc/oakum/config.json"
        self.policy_path = manager.path("/etc/oakum/policy.json")
        self.events_path = manager.path("/var/log/oakum/events.jsonl")
        self.log_path = os.path.join(manager.directory, "agent.log")
        agent.write_json(manager.path(self.config),
                         {"runtime": runtime, "policy": "/etc/oakum/policy.json"})
        self.set_policy(policy)
        for name in (self.UNIT, *([self.KEEPER] if keeper else [])):
            self._add_unit(name)

    def _add_unit(self, name):
        with open(os.path.join(env.SOURCE_DIR, f"packaging/{name}.in"), encoding="utf-8") as unit:
            text = unit.read().replace("@bindir@", "/run/bin")
        os.makedirs(self._manager.path(f"/etc/systemd/system/{name}.d"))
        agent.write_json(self._manager.path(f"/etc/systemd/system/{name}.d/log.conf"),
                         f"[Service]\nStandardError=append:{self.log_path}\n")
        self._manager.add_unit(name, text)

    def start(self):
        try:
            self._manager.systemctl("start", self.UNIT)
        except proc.CommandFailed as error:
            status = self._manager.systemctl("status", "--no-pager", self.UNIT, check=False)
            raise AssertionError(f"{error}\n{status}\n{self._manager.log()}\n{self.log()}") from None
        return self

    def stop(self, number=signal.SIGTERM):
        self._manager.systemctl("stop", self.UNIT)

    def restart(self):
        self._manager.systemctl("restart", self.UNIT)

    def kill(self):
        """Another one runs when this returns."""
        before = self.pid()
        self._manager.systemctl("kill", "--kill-whom=main", "-s", "KILL", self.UNIT)
        proc.wait_until(lambda: self.pid() not in (0, before) and
                        self._manager.show(self.UNIT, "ActiveState") == "active", 20,
                        "another agent runs")

    def upgrade(self):
        """As dpkg does; for the next start."""
        name = f"/run/bin/oakum-agent-{next(self._binaries)}"
        shutil.copy(env.program("oakum-agent"), self._manager.path(name))
        os.rename(self._manager.path(name), self._manager.path("/run/bin/oakum-agent"))

    def reload(self):
        self._manager.systemctl("reload", self.UNIT)

    def pid(self):
        """As its own namespace numbers it; 0: none."""
        return int(self._manager.show(self.UNIT, "MainPID"))

    def kept(self):
        """How many descriptors the store has."""
        return int(self._manager.show(self.UNIT, "NFileDescriptorStore"))

    def keeper_pid(self):
        """As for pid()."""
        return int(self._manager.show(self.KEEPER, "MainPID"))

    def kill_keeper(self):
        """Another one serves the agent when this returns."""
        before, said = self.keeper_pid(), self.log().count("kept again")
        self._manager.systemctl("kill", "--kill-whom=main", "-s", "KILL", self.KEEPER)
        proc.wait_until(lambda: self.keeper_pid() not in (0, before), 20, "another keeper runs")
        proc.wait_until(lambda: self.log().count("kept again") > said, 20, "it is handed everything")

    def kept_pipes(self):
        """How many ends of pipes the keeper has: one for each connection, and two for a relay."""
        directory = self._manager.path(f"/proc/{self.keeper_pid()}/fd")
        return sum(os.readlink(f"{directory}/{name}").startswith("pipe:")
                   for name in os.listdir(directory))

    def log(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()
