"""curl: blocking transfers, refusals, a unix socket, and two hundred transfers at once, over loopback
and to the far side."""
import os

import common
from common import FAR, Server, Timer, pattern, run, sha256, status, write

CURL = "/usr/bin/curl"
PARALLEL = 200


def together(url, name):
    """Two hundred transfers of one curl that are answered only when all of them have come."""
    lines = []
    for number in range(PARALLEL):
        lines += [f'url = "{url}/together?{number}"', f'output = "{name}/{number}"']
    os.makedirs(name)
    config = write(name + ".conf", "\n".join(lines) + "\n")
    with Timer() as timer:
        run(CURL, "-sS", "--fail", "--parallel", "--parallel-immediate", "--parallel-max",
            str(PARALLEL), "--max-time", "40", "--config", config)
    answers = set()
    for number in range(PARALLEL):
        with open(f"{name}/{number}", encoding="ascii") as answer:
            answers.add(answer.read().strip())
    return sorted(answers), timer.seconds


def main():
    common.work_directory()
    far = f"http://{FAR}:8080"
    local = "http://localhost:8080"
    write("upload", pattern(1 << 20, seed=2))
    server = Server("/usr/bin/python3", "/workloads/http_server.py", "127.0.0.1", "8080",
                    str(PARALLEL), "/tmp/work/http.sock", listens_at=("127.0.0.1", 8080))
    outcome = {}
    with server, Server("/usr/bin/python3", "/workloads/http_server.py", "::1", "8081",
                        listens_at=("::1", 8081)):
        with Timer() as blocking:
            for number in range(20):
                run(CURL, "-sS", "--fail", "-o", f"small-{number}", f"{local}/bytes/10000")
            for name, args in {
                    "large": [f"{local}/bytes/4000000"],
                    "far": [f"{far}/bytes/1000000"],
                    "ipv6": ["http://[::1]:8081/bytes/100000"],
                    "unix": ["--unix-socket", "/tmp/work/http.sock", "http://x/bytes/100000"],
                    "upload": ["--data-binary", "@upload", f"{local}/echo"],
                    "upload-far": ["--data-binary", "@upload", f"{far}/echo"],
                    "interface": ["--interface", "127.0.0.1", "--local-port", "40000-40100",
                                  f"{local}/bytes/1000"],
            }.items():
                run(CURL, "-sS", "--fail", "--max-time", "30", "-o", f"got-{name}", *args)
                outcome[name] = sha256(f"got-{name}")
        # CURLE_COULDNT_CONNECT, on both families; CURLE_COULDNT_RESOLVE_HOST.
        outcome["refused"] = [status(CURL, "-sS", "http://127.0.0.1:1/"),
                              status(CURL, "-sS", "http://[::1]:1/"),
                              status(CURL, "-sS", "http://no-such-host.invalid/")]
        outcome["parallel"], parallel = together(local, "parallel")
        outcome["parallel-far"], parallel_far = together(far, "parallel-far")
    common.report(outcome, blocking_s=blocking.seconds, parallel_s=parallel,
                  parallel_far_s=parallel_far)


if __name__ == "__main__":
    main()
