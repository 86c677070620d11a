"""runc and crun on the command line, bare or through oakum-runtime."""
import itertools
import json
import os
import signal

from . import env
from .proc import Process, run

_IDS = itertools.count()
_HYBRID = "/sys/fs/cgroup/unified"


class MountNamespace:
    """crun refuses hybrid cgroups: a mount namespace without /sys/fs/cgroup/unified, kept by a
    sleeping process. On a machine with cgroup v1 or v2 alone it changes nothing."""

    def __init__(self, directory):
        self._holder = None
        if os.path.ismount(_HYBRID):
            marker = os.path.join(directory, f"mount-namespace-{next(_IDS)}")
            self._holder = Process(
                [env.tool("unshare"), "-m", "--propagation", "private", "sh", "-c",
                 f'umount {_HYBRID} && touch "$0" && exec sleep 86400', marker], marker + ".log")
            self._holder.wait_for(lambda: os.path.exists(marker), 30, "the mount namespace is made")

    def prefix(self):
        """What to put before a command."""
        if self._holder is None:
            return []
        return [env.tool("nsenter"), "-t", str(self._holder.pid), "-m", "--"]

    def close(self):
        if self._holder is not None:
            self._holder.stop()


def parse_probe(text):
    """The lines of the probe program as a list."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Running(Process):
    """A runtime's `run` in the background."""

    def __init__(self, engine, container_id, args, log_path):
        super().__init__(args, log_path)
        self._engine = engine
        self._container_id = container_id

    def stop(self, number=signal.SIGTERM, timeout=15):
        """Ends the container first: to its first process, most signals mean nothing."""
        if self.running():
            self._engine.delete(self._container_id)
        return super().stop(number, timeout)


class Runtime:
    """Containers of one runtime. `config`: an Oakum configuration file; then all goes through
    oakum-runtime. `prefix`: a command that runs another one where that is to be. State is kept in
    `directory`; close() deletes what is left."""

    NAMES = ("runc", "crun")

    def __init__(self, name, directory, *, config=None, prefix=()):
        self.name = name
        self.path = env.tool(name)
        self.root = os.path.join(directory, f"{name}-state-{next(_IDS)}")
        os.makedirs(self.root)
        self._prefix = list(prefix)
        self._namespace = MountNamespace(directory) if name == "crun" and not prefix else None
        self._config = config
        self._ids = set()

    def command(self, *args, guarded=True, options=()):
        """The full command line. guarded=False: the bare runtime in the same place."""
        prefix = self._namespace.prefix() if self._namespace else self._prefix
        if self._config is not None and guarded:
            program = [env.program("oakum-runtime"), f"--oakum-config={self._config}"]
        else:
            program = [self.path]
        return [*prefix, *program, "--root", self.root, *options, *args]

    @staticmethod
    def new_id():
        return f"oakum-{os.getpid()}-{next(_IDS)}"

    def run(self, bundle, container_id=None, *, check=True, timeout=60, guarded=True, options=()):
        """`run` in the foreground; the container is gone afterwards."""
        container_id = container_id or self.new_id()
        self._ids.add(container_id)
        return run(self.command("run", "--bundle", bundle, container_id, guarded=guarded,
                                options=options), check=check, timeout=timeout)

    def run_probe(self, bundle, **options):
        return parse_probe(self.run(bundle, **options).stdout)

    def start(self, bundle, log_path, container_id=None, *, guarded=True):
        """`run` in the background. Returns (id, Process)."""
        container_id = container_id or self.new_id()
        self._ids.add(container_id)
        process = Running(
            self, container_id,
            self.command("run", "--bundle", bundle, container_id, guarded=guarded), log_path)
        process.wait_for(lambda: self.state(container_id).get("status") == "running", 20,
                         f"{container_id} runs")
        return container_id, process

    def create(self, bundle, container_id=None, *, check=True, options=()):
        container_id = container_id or self.new_id()
        self._ids.add(container_id)
        # The container inherits the output: to a file, so that waiting for the end of a pipe does
        # not wait for the container.
        log = os.path.join(self.root, container_id + ".log")
        process = Process(self.command("create", "--bundle", bundle, container_id, options=options),
                          log)
        status = process.wait(60)
        if check and status != 0:
            raise AssertionError(f"create: exit status {status}\n{process.output()}")
        return container_id, status, process.output()

    def exec(self, container_id, *args, check=True, timeout=60):
        return run(self.command("exec", container_id, *args), check=check, timeout=timeout)

    def state(self, container_id):
        result = run(self.command("state", container_id, guarded=False), check=False)
        return json.loads(result.stdout) if result.returncode == 0 else {}

    def delete(self, container_id):
        run(self.command("delete", "--force", container_id, guarded=False), check=False)
        self._ids.discard(container_id)

    def close(self):
        for container_id in sorted(self._ids):
            self.delete(container_id)
        if self._namespace is not None:
            self._namespace.close()
