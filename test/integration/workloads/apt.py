"""apt-get update, download and install from a repository that is made on the spot, with directories
of its own. The http method of apt runs as the user _apt and talks to apt-get over pipes."""
import os

import common
from common import Server, Timer, run, write

NAMES = [f"oakum-sample-{n}" for n in range(5)]


def make_repository():
    for number, name in enumerate(NAMES):
        depends = f"Depends: {NAMES[number + 1]} (= 1.0)\n" if number + 1 < len(NAMES) else ""
        write(f"build/{name}/DEBIAN/control",
              f"Package: {name}\nVersion: 1.0\nArchitecture: all\n{depends}"
              "Maintainer: nobody <nobody@example.invalid>\nDescription: a sample\n")
        write(f"build/{name}/usr/share/{name}/data", common.pattern(50000, seed=number))
        run("/usr/bin/dpkg-deb", "--root-owner-group", "--build", f"build/{name}",
            f"repository/{name}_1.0_all.deb")
    os.chdir("repository")
    write("Packages", run("/usr/bin/apt-ftparchive", "packages", "."))
    write("Release", run("/usr/bin/apt-ftparchive", "release", "."))
    os.chdir("..")


def main():
    work = common.work_directory()
    os.chmod(work, 0o755)
    os.makedirs("repository")
    make_repository()
    root = f"{work}/root"
    for directory in ("etc/apt/sources.list.d", "etc/apt/preferences.d", "etc/apt/apt.conf.d",
                      "etc/apt/trusted.gpg.d", "var/lib/dpkg/info", "var/lib/dpkg/updates",
                      "var/lib/apt/lists/partial", "var/cache/apt/archives/partial",
                      "var/log/apt"):
        os.makedirs(f"{root}/{directory}")
    write(f"{root}/var/lib/dpkg/status", "")
    write(f"{root}/etc/apt/sources.list", "deb [trusted=yes] http://localhost:8080 ./\n")
    config = write(f"{work}/apt.conf", f"""
        Dir "{root}";
        Dir::State::status "{root}/var/lib/dpkg/status";
        Dir::Bin::methods "/usr/lib/apt/methods";
        Dir::Bin::dpkg "/usr/bin/dpkg";
        Dpkg::Options {{ "--root={root}"; "--force-script-chrootless"; }};
        Dpkg::Use-Pty "true";
        APT::Install-Recommends "false";
        Acquire::Retries "0";
    """)
    apt = ("/usr/bin/apt-get", "--yes", "--quiet")
    environment = {"APT_CONFIG": config, "DEBIAN_FRONTEND": "noninteractive"}
    with Timer() as timer, \
            Server("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory",
                   "repository", "8080", listens_at=("127.0.0.1", 8080)):
        run(*apt, "update", **environment)
        os.makedirs("downloads")
        os.chdir("downloads")
        run(*apt, "download", NAMES[-1], **environment)
        downloaded = os.listdir(".")
        os.chdir("..")
        run(*apt, "install", NAMES[0], **environment)
    installed = run("/usr/bin/dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W",
                    "-f", "${Package} ${Status}\n")
    files = [common.sha256(f"{root}/usr/share/{name}/data") for name in NAMES]
    common.report({"downloaded": downloaded, "installed": installed.splitlines(), "files": files},
                  work_s=timer.seconds)


if __name__ == "__main__":
    main()
