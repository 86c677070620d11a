"""A root file system made on the spot: busybox and the test programs, all static."""
import hashlib
import io
import json
import os
import platform
import shutil
import tarfile

from . import env

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
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


def pack_oci_image(rootfs_archive, archive, name):
    """An OCI image layout with the root file system as its one layer, as a tar archive."""
    with open(rootfs_archive, "rb") as layer_file:
        layer = layer_file.read()
    blobs = {}

    def blob(data, media_type):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    layer_descriptor = blob(layer, "application/vnd.oci.image.layer.v1.tar")
    config = blob(json.dumps({
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]}}).encode(),
        "application/vnd.oci.image.config.v1+json")
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer_descriptor]}).encode(),
        "application/vnd.oci.image.manifest.v1+json")
    manifest["annotations"] = {"io.containerd.image.name": name,
                               "org.opencontainers.image.ref.name": name}
    files = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
             "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()}
    for digest, data in blobs.items():
        files["blobs/" + digest.replace(":", "/")] = data
    with tarfile.open(archive, "w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive
