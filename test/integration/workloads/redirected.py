"""redirected.py CLIENT...: each client fetches by name and by address from the far side and says what it
got. It knows nothing of a proxy: the way there is the guard's. The last line is JSON: client -> what
came out, the same however it went."""
import asyncio
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

import common
from common import run, sha256

CA = "/shared/ca.pem"
DNS = "203.0.113.53"
SIZE = 100000
URLS = {
    "http": f"http://www.example.test/bytes/{SIZE}",
    "https": f"https://www.example.test/bytes/{SIZE}",
    "v6 name": f"http://v6.example.test/bytes/{SIZE}",
    "v4 address": f"http://203.0.113.90/bytes/{SIZE}",
    "v6 address": f"http://[2001:db8::90]/bytes/{SIZE}",
}


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def curl():
    """Also twenty transfers at once."""
    outcome = {}
    for name, url in URLS.items():
        run("/usr/bin/curl", "-sS", "--fail", "--max-time", "30", "--cacert", CA, "-o", "got", url)
        outcome[name] = sha256("got")
    urls = [f"http://n{number}.example.test/slow/1000" for number in range(20)]
    outcome["parallel"] = digest(run(
        "/usr/bin/curl", "-sS", "--fail", "--max-time", "30", "--parallel", "--parallel-immediate",
        "--parallel-max", "20", *urls).encode())
    outcome["upload"] = run("/usr/bin/curl", "-sS", "--fail", "--data-binary", "@got",
                            "http://www.example.test/echo").strip()
    return outcome


def wget():
    outcome = {}
    for name, url in URLS.items():
        run("/usr/bin/wget", "-q", "--tries=1", "--timeout=30", f"--ca-certificate={CA}", "-O",
            "got", url)
        outcome[name] = sha256("got")
    return outcome


def busybox():
    run("/usr/bin/busybox", "wget", "-q", "-O", "got", URLS["http"])
    outcome = {"http": sha256("got")}
    run("/usr/bin/busybox", "wget", "-q", "-O", "got", URLS["v4 address"])
    outcome["v4 address"] = sha256("got")
    return outcome


def git():
    outcome = {}
    for scheme in ("http", "https"):
        run("/usr/bin/git", "clone", "--quiet", f"{scheme}://git.example.test/git/project.git",
            scheme, GIT_SSL_CAINFO=CA, GIT_TERMINAL_PROMPT="0")
        outcome[scheme] = run("/usr/bin/git", "-C", scheme, "rev-parse", "HEAD").strip()
    return outcome


def python_urllib():
    outcome = {}
    context = ssl.create_default_context(cafile=CA)
    for name, url in URLS.items():
        with urllib.request.urlopen(url, timeout=30, context=context) as response:
            outcome[name] = digest(response.read())
    return outcome


def python_requests():
    import requests  # pylint: disable=import-outside-toplevel  # Debian's python3-requests
    return {name: digest(requests.get(url, timeout=30, verify=CA).content)
            for name, url in URLS.items()}


def python_asyncio():
    """Fifty connections at once in one thread, which goes on counting while they are opened."""
    async def fetch(number):
        reader, writer = await asyncio.open_connection(f"n{number}.example.test", 80)
        writer.write(b"GET /bytes/20000 HTTP/1.0\r\n\r\n")
        body = (await reader.read(-1)).partition(b"\r\n\r\n")[2]
        writer.close()
        return digest(body)

    async def longest_pause(stop):
        """Seconds that the loop stood still."""
        longest = 0.0
        while not stop.is_set():
            start = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - start)
        return longest

    async def main():
        stop = asyncio.Event()
        pause = asyncio.create_task(longest_pause(stop))
        results = await asyncio.gather(*[fetch(number) for number in range(50)])
        stop.set()
        return {"bodies": sorted(set(results)), "count": len(results),
                "the loop stood still": await pause > 5}

    return asyncio.run(main())


def echo(sock, path, half_close):
    """Sends a file by sendfile(2) while the echo is read; whether it came back as it was. Half-close:
    the end is told before the last byte has come back, as not every proxy can."""
    size = os.path.getsize(path)
    pid = os.fork()
    if pid == 0:
        with open(path, "rb") as source:
            sock.sendfile(source)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        os._exit(0)
    got, length = hashlib.sha256(), 0
    while (half_close or length < size) and (part := sock.recv(65536)):
        got.update(part)
        length += len(part)
    os.waitpid(pid, 0)
    if not half_close:
        sock.shutdown(socket.SHUT_WR)
        length += len(sock.recv(1))
    return length == size and got.hexdigest()[:16] == sha256(path)


def python_sockets():
    """One who waits for the greeting and ones who speak first; the address of the other end."""
    with socket.create_connection(("ssh.example.test", 22), timeout=30) as greeted:
        outcome = {"greeting": greeted.recv(4).decode()}
    path = common.write("payload", common.pattern(2000000))
    for blocking in (True, False):
        with socket.socket() as sock:
            sock.settimeout(None if blocking else 30)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.connect(("203.0.113.91", 7))
            outcome["blocking" if blocking else "non-blocking"] = [
                list(sock.getpeername()), echo(sock, path, half_close=False),
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
    return outcome


def half_close():
    outcome = {}
    path = common.write("payload", common.pattern(2000000))
    for blocking in (True, False):
        with socket.socket() as sock:
            sock.settimeout(None if blocking else 30)
            sock.connect(("203.0.113.91", 7))
            outcome["blocking" if blocking else "non-blocking"] = echo(sock, path, half_close=True)
    return outcome


def udp():
    """Echoes of datagrams, by a socket that is connected and by one that is not, which sees who
    answers; several destinations by one socket."""
    outcome = {}
    for host in ("203.0.113.90", "2001:db8::90", "www.example.test"):
        family, _, _, _, address = socket.getaddrinfo(host, 7, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.connect(address)
            sock.send(b"connected")
            outcome[f"{host}, connected"] = sock.recv(100).decode()
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.sendto(b"free", address)
            data, peer = sock.recvfrom(100)
            outcome[f"{host}, free"] = [data.decode(), peer == address]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        answers = set()
        for number in range(10):
            address = (f"203.0.113.{90 + number}", 7)
            sock.sendmsg([b"number ", b"%d" % number], [], 0, address)
            data, _, _, peer = sock.recvmsg(100)
            answers.add((data.decode(), peer == address))
        outcome["many"] = sorted(answers)
    return outcome


def node():
    return {"lines": run("/usr/bin/node", "/workloads/redirect/client.js",
                         NODE_EXTRA_CA_CERTS=CA).splitlines()}


def java():
    return {"lines": run("/data/jvm/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                         "-Xmx128m", "-cp", "/data/java", "Client", timeout=100).splitlines()}


def go_static():
    return {"lines": run("/data/go-client", timeout=100, SSL_CERT_FILE=CA).splitlines()}


def ssh():
    run("/usr/bin/install", "-m", "600", "/shared/ssh_key", "ssh_key")
    options = ["-F", "/dev/null", "-i", "ssh_key", "-o", "StrictHostKeyChecking=no", "-o",
               "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    return {"echo": run("/usr/bin/ssh", *options, "root@ssh.example.test", "cat", stdin="x" * 90000)
                    .count("x")}


def apt():
    work = os.getcwd()
    os.chmod(work, 0o755)
    for directory in ("etc/apt/sources.list.d", "etc/apt/preferences.d", "etc/apt/apt.conf.d",
                      "etc/apt/trusted.gpg.d", "var/lib/dpkg", "var/lib/apt/lists/partial",
                      "var/cache/apt/archives/partial", "var/log/apt"):
        os.makedirs(f"apt/{directory}")
    common.write("apt/var/lib/dpkg/status", "")
    common.write("apt/etc/apt/sources.list",
                 "deb [trusted=yes] http://deb.example.test/debian ./\n")
    config = common.write("apt.conf", f"""
        Dir "{work}/apt";
        Dir::State::status "{work}/apt/var/lib/dpkg/status";
        Dir::Bin::methods "/usr/lib/apt/methods";
        Acquire::Retries "0";
    """)
    environment = {"APT_CONFIG": os.path.abspath(config)}
    run("/usr/bin/apt-get", "--quiet", "update", **environment)
    run("/usr/bin/apt-get", "--quiet", "download", "oakum-sample", **environment)
    return {"downloaded": sorted(name for name in os.listdir(".") if name.endswith(".deb"))}


def dig():
    """Names are known, and what is not known is not; by UDP and TCP, to two servers. Which address
    stands for a name is the resolver's business."""
    outcome = {}
    for server in (DNS, "203.0.113.54"):
        for option in ("+notcp", "+tcp"):
            shown = run("/usr/bin/dig", f"@{server}", "+noall", "+answer", "+comments", option,
                        "+tries=1", "+time=20", "www.example.test", "A")
            outcome[f"{server} {option}"] = ["NOERROR" in shown, shown.count("\tA\t")]
    return outcome


CLIENTS = {one.__name__: one for one in (
    curl, wget, busybox, git, python_urllib, python_requests, python_asyncio, python_sockets,
    half_close, node, java, go_static, ssh, apt, dig, udp)}


def main():
    outcome, seconds = {}, {}
    work = common.work_directory()
    for name in sys.argv[1:]:
        os.makedirs(f"{work}/{name}")
        os.chdir(f"{work}/{name}")
        start = time.monotonic()
        try:
            outcome[name] = CLIENTS[name]()
        except (OSError, ssl.SSLError, subprocess.TimeoutExpired, SystemExit) as error:
            outcome[name] = f"failed: {error}"
        seconds[name] = round(time.monotonic() - start, 2)
    print(json.dumps({"outcome": outcome, "seconds": seconds}))


if __name__ == "__main__":
    main()
