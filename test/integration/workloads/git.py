"""git: clone and push over https with an authority of our own, and over git's own protocol."""
import os

import common
from common import Server, Timer, pattern, run, status, write

GIT = "/usr/bin/git"


def commit_files(count):
    for number in range(count):
        write(f"dir-{number % 7}/file-{number}", pattern(20000, seed=number))
    run(GIT, "add", "--all")
    run(GIT, "commit", "--quiet", "--message", f"{count} files")


def clone_and_push(url, name):
    """The head that was cloned, and the one that the server has after a push."""
    run(GIT, "clone", "--quiet", url, name)
    os.chdir(name)
    cloned = run(GIT, "rev-parse", "HEAD").strip()
    write("more", pattern(1500000, seed=name))
    run(GIT, "add", "--all")
    run(GIT, "commit", "--quiet", "--message", name)
    run(GIT, "push", "--quiet", "origin", f"HEAD:refs/heads/{name}")
    pushed = run(GIT, "ls-remote", "origin", f"refs/heads/{name}").split()[0]
    os.chdir("..")
    return cloned, pushed


def main():
    work = common.work_directory()
    os.environ.update(
        GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@example.invalid", GIT_COMMITTER_NAME="a",
        GIT_COMMITTER_EMAIL="a@example.invalid", GIT_AUTHOR_DATE="2024-01-01T00:00:00Z",
        GIT_COMMITTER_DATE="2024-01-01T00:00:00Z", GIT_TERMINAL_PROMPT="0")
    certificate, key = common.certificate()
    run(GIT, "init", "--quiet", "--initial-branch=main", "source")
    os.chdir("source")
    commit_files(200)
    os.chdir("..")
    run(GIT, "clone", "--quiet", "--bare", "source", "served/project.git")
    run(GIT, "-C", "served/project.git", "config", "http.receivepack", "true")
    outcome = {}
    with Timer() as timer, \
            Server("/usr/bin/python3", "/workloads/git_server.py", "8443", certificate, key,
                   f"{work}/served", listens_at=("127.0.0.1", 8443)), \
            Server("/usr/lib/git-core/git-daemon", "--listen=127.0.0.1", "--port=9418",
                   "--reuseaddr",
                   "--export-all", "--enable=receive-pack", f"--base-path={work}/served",
                   listens_at=("127.0.0.1", 9418)):
        url = "https://localhost:8443/project.git"
        # An authority that nobody knows: exit status 128.
        outcome["unknown authority"] = status(GIT, "ls-remote", url)
        os.environ["GIT_SSL_CAINFO"] = certificate
        outcome["https"] = clone_and_push(url, "over-https")
        outcome["git"] = clone_and_push("git://localhost/project.git", "over-git")
    run(GIT, "-C", "served/project.git", "fsck", "--strict")
    common.report(outcome, work_s=timer.seconds)


if __name__ == "__main__":
    main()
