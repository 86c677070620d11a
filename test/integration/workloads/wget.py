"""wget: one file, a tree of pages, an upload, a refusal and the far side."""
import os

import common
from common import FAR, Server, Timer, pattern, run, sha256, status, write

WGET = "/usr/bin/wget"
PAGES = 20


def main():
    common.work_directory()
    links = "".join(f'<a href="page-{n}.html">{n}</a>\n' for n in range(PAGES))
    write("site/index.html", f"<html><body>{links}</body></html>\n")
    for number in range(PAGES):
        write(f"site/page-{number}.html", f'<html><img src="image-{number}"></html>\n')
        write(f"site/image-{number}", pattern(5000, seed=number))
    upload = write("upload", pattern(300000))
    outcome = {}
    with Timer() as timer, \
            Server("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory",
                   "site", "8080", listens_at=("127.0.0.1", 8080)), \
            Server("/usr/bin/python3", "/workloads/http_server.py", "::1", "8081",
                   listens_at=("::1", 8081)):
        run(WGET, "--recursive", "--page-requisites", "--no-host-directories",
            "--directory-prefix", "mirror", "http://localhost:8080/index.html")
        outcome["mirror"] = sorted(f"{name} {sha256('mirror/' + name)}"
                                   for name in os.listdir("mirror"))
        for name, args in {"ipv6": ["http://[::1]:8081/bytes/2000000"],
                           "far": [f"http://{FAR}:8080/bytes/2000000"],
                           "post": [f"--post-file={upload}", f"http://{FAR}:8080/echo"]}.items():
            run(WGET, "--tries=1", "--timeout=30", "-O", f"got-{name}", *args)
            outcome[name] = sha256(f"got-{name}")
        # wget(1), EXIT STATUS: 4 network failure, 8 the server answered with an error.
        outcome["refused"] = [status(WGET, "--tries=1", "http://127.0.0.1:1/"),
                              status(WGET, "--tries=1", "http://localhost:8080/not-there")]
    common.report(outcome, work_s=timer.seconds)


if __name__ == "__main__":
    main()
