"""Where things are, and what a test needs to run."""
import os
import shutil
import unittest

SOURCE_DIR = os.environ.get(
    "OAKUM_SOURCE_DIR", os.path.abspath(os.path.join(os.path.dirname(__file__), "../../..")))
BIN_DIR = os.environ.get("OAKUM_BIN_DIR", os.path.join(SOURCE_DIR, "build/release/bin"))
TEST_BIN_DIR = os.environ.get("OAKUM_TEST_BIN_DIR", os.path.join(SOURCE_DIR, "build/release/test"))
# Whether our programs are built with a sanitizer, which keeps what has been freed.
SANITIZED = bool(os.environ.get("OAKUM_SANITIZE"))
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name):
    """One of our programs (oakum-agent, oakum-hook, oakum-runtime, oakum)."""
    path = os.path.join(BIN_DIR, name)
    if not os.path.exists(path):
        raise unittest.SkipTest(f"{path} is not built")
    return path


def test_program(name):
    """A static test program that the build compiled from test/integration/programs."""
    path = os.path.join(TEST_BIN_DIR, name)
    if not os.path.exists(path):
        raise unittest.SkipTest(f"{path} is not built")
    return path


def tool(name):
    """Path of a command of the system; skips the test when it is not installed. /usr/bin and
    /usr/sbin win over /usr/local: the tests are about the distribution's packages."""
    path = shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:/usr/local/sbin")
    if path is None:
        raise unittest.SkipTest(f"{name} is not installed")
    return path


def require_root():
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root: namespaces, cgroups and seccomp listeners")


def clean_environment(**extra):
    """The environment that commands get: nothing of the caller's but what is named here, and what the
    thread sanitizer has to know."""
    environment = {"PATH": SYSTEM_PATH, "HOME": "/root", "LANG": "C.UTF-8"}
    if "TSAN_OPTIONS" in os.environ and SANITIZED:
        environment["TSAN_OPTIONS"] = os.environ["TSAN_OPTIONS"]
    environment.update(extra)
    return environment


def has_all_capabilities():
    """Whether this process has every capability that the kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as last:
        wanted = (1 << (int(last.read()) + 1)) - 1
    with open("/proc/self/status", encoding="ascii") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    return effective & wanted == wanted
