"""A root file system that has the distribution's own programs: /usr is the machine's, read only; /etc
is made of what the programs need of it; everything that is written goes to tmpfs."""
import glob
import os
import shutil

# Users that the programs want to become, with the numbers that this root file system gives them.
USERS = {"root": 0, "_apt": 42, "sshd": 101, "postgres": 102, "www-data": 33, "nobody": 65534}
GROUPS = {**USERS, "nogroup": 65534, "tty": 5}
# Of the machine's /etc: nothing that is secret, nothing that says who the machine is.
_ETC = ("alternatives", "java-*-openjdk", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "mime.types",
        "protocols", "services", "ssl/certs/java", "ssl/openssl.cnf")
_TMPFS = ("/dev/shm", "/run", "/tmp", "/var")
# What Docker gives a container.
CAPABILITIES = ["CAP_" + name for name in (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
    "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")]


def _copy_etc(etc):
    for pattern in _ETC:
        for source in glob.glob(os.path.join("/etc", pattern)):
            target = os.path.join(etc, os.path.relpath(source, "/etc"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.isdir(source):
                shutil.copytree(source, target, symlinks=True)
            else:
                shutil.copy(source, target)


def _write(path, lines):
    with open(path, "w", encoding="ascii") as out:
        out.writelines(line + "\n" for line in lines)


def make(path):
    """Fills `path`, which is to be mounted read only. Returns path."""
    for directory in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"):
        os.makedirs(os.path.join(path, directory))
    # runc gives a tmpfs the mode of what it covers.
    for directory in ("run", "tmp", "var"):
        os.chmod(os.path.join(path, directory), 0o1777)
    # Links into /usr since Debian 12; a directory of its own has to be mounted (mounts()).
    for name in ("bin", "sbin", "lib", "lib64"):
        source = "/" + name
        if os.path.islink(source):
            os.symlink(os.readlink(source), os.path.join(path, name))
        elif os.path.isdir(source):
            os.makedirs(os.path.join(path, name))
    etc = os.path.join(path, "etc")
    _copy_etc(etc)
    _write(etc + "/passwd", [f"{name}:x:{uid}:{uid}::/tmp:/bin/bash" for name, uid in USERS.items()])
    _write(etc + "/group", [f"{name}:x:{gid}:" for name, gid in GROUPS.items()])
    _write(etc + "/shadow", [f"{name}:*:19000:0:99999:7:::" for name in USERS])
    _write(etc + "/hosts", ["127.0.0.1 localhost", "::1 localhost ip6-localhost"])
    _write(etc + "/nsswitch.conf", ["passwd: files", "group: files", "shadow: files",
                                    "hosts: files", "services: files", "protocols: files"])
    return path


def mounts(path, binds):
    """Mounts for config.json, beside those that bundle.make_config has. binds: directories of the
    machine by their place in the container, read only."""
    result = [{"destination": place, "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "nodev", "mode=1777"]} for place in _TMPFS]
    directories = {"/usr": "/usr", **binds}
    for name in ("bin", "sbin", "lib", "lib64"):
        if os.path.isdir(os.path.join(path, name)) and not os.path.islink(os.path.join(path, name)):
            directories["/" + name] = "/" + name
    for place, source in directories.items():
        os.makedirs(path + place, exist_ok=True)
        result.append({"destination": place, "type": "bind", "source": source,
                       "options": ["rbind", "ro", "nodev"]})
    return result
