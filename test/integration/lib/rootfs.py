"""A root file system made on the spot: busybox and the test programs, all static."""
import os
import shutil
import tarfile

from . import env

_APPLETS = ("sh", "cat", "echo", "false", "grep", "id", "ip", "kill", "ls", "mkdir", "nc", "ping",
            "ps", "rm", "sleep", "touch", "true", "wget")


def make_rootfs(path, programs=("probe",)):
    """Fills `path`; the programs go to /bin. Returns path."""
    for directory in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"):
        os.makedirs(os.path.join(path, directory), exist_ok=True)
    os.chmod(os.path.join(path, "tmp"), 0o1777)
    shutil.copy(env.tool("busybox"), os.path.join(path, "bin/busybox"))
    for applet in _APPLETS:
        link = os.path.join(path, "bin", applet)
        if not os.path.lexists(link):
            os.symlink("busybox", link)
    for name in programs:
        shutil.copy(env.test_program(name), os.path.join(path, "bin", name))
    with open(os.path.join(path, "etc/passwd"), "w", encoding="ascii") as passwd:
        passwd.write("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    with open(os.path.join(path, "etc/group"), "w", encoding="ascii") as group:
        group.write("root:x:0:\nnogroup:x:65534:\n")
    return path


def pack_rootfs(path, archive):
    """The root file system as a tar archive, owned by root."""
    with tarfile.open(archive, "w") as tar:
        tar.add(path, arcname=".")
    return archive
