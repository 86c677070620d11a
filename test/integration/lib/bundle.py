"""OCI bundles: a config.json as `runc spec` would write it, with a network namespace of our own."""
import copy
import json
import os

_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE",
                 "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID"]
_MASKED = ["/proc/kcore", "/proc/keys", "/sys/firmware"]


def make_config(rootfs, args, *, netns=None, uid=0, capabilities=None, no_new_privileges=True,
                annotations=None, seccomp=None, cgroups_path=None):
    """A config.json document. netns: path of a network namespace, or None for a new one."""
    capabilities = _CAPABILITIES if capabilities is None else capabilities
    network = {"type": "network"}
    if netns is not None:
        network["path"] = netns
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": uid, "gid": uid},
            "args": list(args),
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(capabilities)
                             for name in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": no_new_privileges,
        },
        "root": {"path": rootfs, "readonly": False},
        "hostname": "oakum-test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")] + [network],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    }
    if annotations:
        config["annotations"] = dict(annotations)
    if seccomp is not None:
        config["linux"]["seccomp"] = copy.deepcopy(seccomp)
    if cgroups_path is not None:
        config["linux"]["cgroupsPath"] = cgroups_path
    return config


def make_bundle(path, config):
    """Writes a bundle directory whose config.json is a document or, as it is, a text."""
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as out:
        if isinstance(config, str):
            out.write(config)
        else:
            json.dump(config, out)
    return path
