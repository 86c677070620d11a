"""A far side with names: DNS, HTTP, HTTPS, git, ssh and a package repository, each under a name of its
own, which programs reach through a proxy or not at all."""
import json
import os

from . import env, network, proxies
from .proc import Process, run

_SERVICES = os.path.join(os.path.dirname(__file__), "far_services.py")
DNS = "203.0.113.53"
NAMES = {
    "www.example.test": ["203.0.113.80", "2001:db8::80"],
    "v4.example.test": ["203.0.113.81"],
    "v6.example.test": ["2001:db8::81"],
    "git.example.test": ["203.0.113.82"],
    "ssh.example.test": ["203.0.113.83"],
    "deb.example.test": ["203.0.113.84"],
    "dns.example.test": [DNS],
    **{f"n{n}.example.test": [f"203.0.113.{100 + n}"] for n in range(100)},
}
_SSHD = """
Port 22
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
"""


class FarWorld:
    """`far` is the FarSide (packets are counted there); `authority` signed the `certificate` that
    HTTPS shows; `shared` is a directory for containers with ca.pem and an ssh key."""

    def __init__(self, directory):
        self.directory = os.path.join(directory, "far")
        self.root = os.path.join(self.directory, "root")
        self.shared = os.path.join(self.directory, "shared")
        for path in (self.root, self.shared):
            os.makedirs(path)
        self.far = network.FarSide(directory, ports=())
        self._servers = []
        try:
            self.authority = proxies.Authority(directory)
            self.certificate, self._key = self.authority.issue("*.example.test")
            self.hosts = proxies.Hosts(directory, NAMES)
            run(["cp", self.authority.path, self.shared + "/ca.pem"])
            self._start_services()
        except BaseException:
            self.close()
            raise

    @property
    def netns(self):
        """The far side's network namespace, where proxies run."""
        return f"/run/netns/{self.far.far}"

    def _start_services(self):
        zone = os.path.join(self.directory, "zone.json")
        with open(zone, "w", encoding="ascii") as out:
            json.dump(NAMES, out)
        ready = os.path.join(self.directory, "ready")
        self._start("services", ["/usr/bin/python3", _SERVICES, ready, zone, self.root,
                                 self.certificate, self._key],
                    lambda: os.path.exists(ready))

    def _start(self, name, command, ready):
        server = Process([*proxies.in_netns(self.netns), *command],
                         os.path.join(self.directory, name + ".log"))
        self._servers.append(server)
        server.wait_for(ready, 20, f"{name} is ready")

    def add_git(self):
        """A repository with two commits: .../git/project.git."""
        work, git = os.path.join(self.directory, "work"), env.tool("git")
        identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.test",
                    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.test",
                    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
                    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z", "GIT_CONFIG_GLOBAL": "/dev/null"}
        environment = env.clean_environment(**identity)
        run([git, "init", "--quiet", "--initial-branch=main", work], environment=environment)
        for number in range(2):
            with open(os.path.join(work, f"file-{number}"), "w", encoding="ascii") as out:
                out.write(f"{number}\n" * 20000)
            run([git, "-C", work, "add", "--all"], environment=environment)
            run([git, "-C", work, "commit", "--quiet", "-m", f"{number}"], environment=environment)
        run([git, "clone", "--quiet", "--bare", work, self.root + "/git/project.git"],
            environment=environment)

    def add_packages(self):
        """A repository with one package: http://deb.example.test/debian ./"""
        build, repository = self.directory + "/package", self.root + "/debian"
        os.makedirs(build + "/DEBIAN")
        os.makedirs(repository)
        with open(build + "/DEBIAN/control", "w", encoding="ascii") as out:
            out.write("Package: oakum-sample\nVersion: 1.0\nArchitecture: all\n"
                      "Maintainer: nobody <nobody@example.test>\nDescription: a sample\n")
        run([env.tool("dpkg-deb"), "--root-owner-group", "--build", build,
             repository + "/oakum-sample_1.0_all.deb"])
        for name, command in (("Packages", "packages"), ("Release", "release")):
            done = run([env.tool("apt-ftparchive"), command, "."], cwd=repository)
            with open(os.path.join(repository, name), "w", encoding="utf-8") as out:
                out.write(done.stdout)

    def add_ssh(self):
        """sshd on port 22 of every address, for root with the key in `shared`."""
        keygen = env.tool("ssh-keygen")
        for path in (self.directory + "/host_key", self.shared + "/ssh_key"):
            run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", path])
        run(["cp", self.shared + "/ssh_key.pub", self.directory + "/authorized_keys"])
        config = os.path.join(self.directory, "sshd_config")
        with open(config, "w", encoding="ascii") as out:
            out.write(_SSHD.format(directory=self.directory))
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self._start("sshd", [env.tool("sshd"), "-D", "-e", "-f", config],
                    lambda: proxies.listens(("0.0.0.0", 22), self.netns))

    def leaked(self, *allowed):
        """Packets that left the container for anything but the (address, port) pairs, tcp."""
        return self.far.packets() - sum(self.far.packets(address, "tcp", port)
                                        for address, port in allowed)

    def close(self):
        for server in self._servers:
            server.stop()
        self.far.close()
