"""The image of the agent: built from the Dockerfile on a base made on the spot, started, and put to
work on a container of the host's."""
import fcntl
import os
import shutil
import tarfile

from lib import agent as agents
from lib import bundle, case, env, network, rootfs, runtime
from lib.proc import Process, run

BUILD = os.path.dirname(env.BIN_DIR)
IMAGE = "localhost/oakum-agent:test"
BASE = "localhost/oakum-base:test"


def os_release():
    with open("/etc/os-release", encoding="utf-8") as file:
        pairs = [line.strip().split("=", 1) for line in file if "=" in line]
    return {key: value.strip('"') for key, value in pairs}


def mirror(codename):
    """Where this machine gets its packages from, by its own configuration."""
    lines = run([env.tool("apt-get"), "indextargets", "--format",
                 "$(SITE) $(CODENAME) $(COMPONENT)", "Created-By: Packages"]).stdout.split("\n")
    found = [line.split() for line in lines if len(line.split()) == 3]
    sites = [site for site, name, component in found if (name, component) == (codename, "main")]
    if sites:
        components = {component for site, _, component in found if site == sites[0]}
        return sites[0], ",".join(sorted(components & {"main", "universe"}))
    raise AssertionError(f"apt knows no mirror for {codename}")


def base_archive():
    """A minimal system as a tar archive, kept in the build folder: making it takes half a minute."""
    codename = os_release()["VERSION_CODENAME"]
    cache = os.path.join(BUILD, "cache")
    os.makedirs(cache, exist_ok=True)
    archive = os.path.join(cache, f"{codename}.tar")
    with open(archive + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(archive):
            return archive
        site, components = mirror(codename)
        root = os.path.join(cache, "root")
        shutil.rmtree(root, ignore_errors=True)
        run([env.tool("debootstrap"), "--variant=minbase", "--include=ca-certificates",
             f"--components={components}", codename, root, site], timeout=300)
        with tarfile.open(archive + ".part", "w") as tar:
            tar.add(root, arcname=".")
        shutil.rmtree(root)
        os.rename(archive + ".part", archive)
    return archive


def shared_ccache():
    """What this machine has compiled need not be compiled again in the image: the same compiler
    package on the same text gives the same object."""
    found = run(["ccache", "--get-config", "cache_dir"], check=False) if shutil.which("ccache") else None
    if found is None or found.returncode != 0 or not os.path.isdir(found.stdout.strip()):
        return []
    # What it is compiled under counts (ccache(1), sloppiness, "locale").
    names = [name for name in ("LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES") if name in os.environ]
    return ["--volume", f"{found.stdout.strip()}:/root/.cache/ccache:rw",
            *(f"--env={name}={os.environ[name]}" for name in names)]


class ImageTest(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.storage = ["--root", os.path.join(cls.directory, "storage"),
                       "--runroot", os.path.join(cls.directory, "runroot")]
        cls.addClassCleanup(cls.remove_storage)
        base = cls.buildah("from", "scratch").stdout.strip()
        cls.buildah("add", base, base_archive(), "/", timeout=120)
        cls.buildah("commit", "--rm", base, BASE, timeout=120)
        cls.buildah("bud", "--isolation", "chroot", "--build-arg", f"BASE={BASE}", "--tag", IMAGE,
                    *shared_ccache(), env.SOURCE_DIR, timeout=1700)

    @classmethod
    def buildah(cls, *args, **options):
        return run([env.tool("buildah"), *cls.storage, *args], **options)

    @classmethod
    def remove_storage(cls):
        cls.buildah("rm", "--all", check=False)
        cls.buildah("rmi", "--all", "--force", check=False)
        # The overlay driver keeps its home mounted on itself.
        run([env.tool("umount"), os.path.join(cls.directory, "storage/overlay")], check=False)

    def podman(self, *args):
        return [env.tool("podman"), *self.storage, "--cgroup-manager", "cgroupfs",
                "--events-backend", "file", "--runtime", "runc", *args]

    def run_image(self, *args, entrypoint=None):
        choice = ["--entrypoint", entrypoint] if entrypoint else []
        return run(self.podman("run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024",
                               "--ulimit", "nproc=1000:1000", *choice, IMAGE, *args))

    def test_it_has_the_agent_and_no_compiler(self):
        self.assertRegex(self.run_image("--version").stdout, r"\d+\.\d+\.\d+")
        self.run_image("--config", "/etc/oakum/config.json", "--check")
        listing = self.run_image("-c", "ls /usr/bin /src 2>/dev/null; exit 0", entrypoint="/bin/sh")
        self.assertIn("oakum-runtime", listing.stdout)
        self.assertNotIn("cmake", listing.stdout)
        size = int(run(self.podman("image", "inspect", "--format", "{{.Size}}", IMAGE)).stdout)
        self.assertLess(size, 400 * 1024 * 1024)

    def test_removing_the_package_says_what_still_names_it(self):
        """podman would skip the hook without a word."""
        removal = self.run_image("-c", "mkdir -p /etc/containers/containers.conf.d && "
                                 "ln -s /usr/share/oakum/podman.conf "
                                 "/etc/containers/containers.conf.d/oakum.conf && "
                                 "dpkg --remove oakum 2>&1", entrypoint="/bin/sh").stdout
        self.assertIn("/etc/containers/containers.conf.d/oakum.conf still names Oakum", removal)
        self.assertIn("UNGUARDED", removal)

    def test_the_agent_guards_a_container_of_the_host(self):
        far = network.FarSide(self.directory)
        self.addCleanup(far.close)
        etc = os.path.join(self.directory, "etc")
        socket_directory = os.path.join(self.directory, "run")
        for path in (etc, os.path.join(etc, "policy.d"), socket_directory):
            os.makedirs(path)
        policy = agents.single_policy(
            {"mode": "enforce", "outgoing": {"default": "deny", "allow": [far.GOOD4]}})
        agents.write_json(os.path.join(etc, "policy.d/50-test.json"), policy)
        agents.write_json(os.path.join(etc, "config.json"), {
            "runtime": "runc", "socket": "/run/oakum/agent.sock", "policy": "/etc/oakum/policy.d"})
        agent = Process(
            self.podman("run", "--rm", "--name", "oakum-agent", "--privileged", "--pid", "host",
                        "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit",
                        "nproc=1000:1000", "--volume", f"{etc}:/etc/oakum:ro", "--volume",
                        f"{socket_directory}:/run/oakum", IMAGE),
            os.path.join(self.directory, "agent.log"))
        self.addCleanup(agent.stop)
        self.addCleanup(run, self.podman("rm", "--force", "--time", "5", "oakum-agent"), check=False)
        socket = os.path.join(socket_directory, "agent.sock")
        agent.wait_for(lambda: os.path.exists(socket), 20, "the agent listens")

        config = agents.write_json(os.path.join(self.directory, "host.json"), {
            "runtime": "runc", "socket": socket, "policy": os.path.join(etc, "policy.d")})
        engine = runtime.Runtime("runc", self.directory, config=config)
        self.addCleanup(engine.close)
        root = rootfs.make_rootfs(os.path.join(self.directory, "rootfs"))
        steps = ["/bin/probe", f"tcp {far.GOOD4} 443 hello", f"tcp {far.BAD4} 80 hello"]
        for guarded in (False, True):
            path = os.path.join(self.directory, engine.new_id())
            bundle.make_bundle(path, bundle.make_config(root, steps, netns=far.netns))
            far.reset()
            good, bad = engine.run_probe(path, guarded=guarded)
            self.assertWorked(good)
            if guarded:
                self.assertFailed(bad, "EACCES")
                self.assertEqual(far.packets(far.BAD4), 0)
            else:
                self.assertWorked(bad)
                self.assertGreaterEqual(far.packets(far.BAD4), 3)
        self.assertIn(far.BAD4, agent.output())


if __name__ == "__main__":
    case.main()
