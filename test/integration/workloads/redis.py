"""redis-server and redis-benchmark: kept connections, one connection a request, a unix socket, a
replica, and a snapshot."""
import re

import common
from common import Server, run, wait_until

SOCKET = "/tmp/work/redis.sock"


def benchmark(*args):
    """Requests a second by test."""
    out = run("/usr/bin/redis-benchmark", "-q", "-c", "50", *args)
    return [float(rate) for rate in re.findall(r"([0-9.]+) requests per second", out)]


def cli(*args, port="6379"):
    return run("/usr/bin/redis-cli", "-p", port, *args).strip()


def main():
    common.work_directory()
    common.write("second/keep", "")
    outcome = {}
    with Server("/usr/bin/redis-server", "--port", "6379", "--unixsocket", SOCKET, "--save", "",
                "--bind", "127.0.0.1", "::1", "--dir", common.WORK, "--tcp-backlog", "511",
                "--repl-diskless-sync-delay", "0", listens_at=("127.0.0.1", 6379)):
        kept = benchmark("-t", "ping_mbulk,set,get", "-n", "20000")
        pipelined = benchmark("-t", "set", "-n", "50000", "-P", "16")
        fresh = benchmark("-t", "ping_mbulk", "-n", "3000", "-k", "0")
        unix = benchmark("-s", SOCKET, "-t", "set,get", "-n", "20000")
        unix_fresh = benchmark("-s", SOCKET, "-t", "ping_mbulk", "-n", "3000", "-k", "0")
        outcome["tests"] = [len(kept), len(pipelined), len(fresh), len(unix), len(unix_fresh)]
        cli("set", "name", "value")
        with Server("/usr/bin/redis-server", "--port", "6380", "--save", "", "--dir",
                    common.WORK + "/second", "--replicaof", "127.0.0.1", "6379",
                    listens_at=("127.0.0.1", 6380)):
            wait_until(lambda: cli("get", "name", port="6380") == "value", "the replica follows")
            outcome["replica"] = cli("get", "name", port="6380")
        # The replica's copy is made by a process that may not have ended.
        wait_until(lambda: "rdb_bgsave_in_progress:0" in cli("info", "persistence"), "the copy ends")
        outcome["snapshot"] = cli("save")
        outcome["ipv6"] = run("/usr/bin/redis-cli", "-h", "::1", "get", "name").strip()
    common.report(outcome, set_per_s=kept[1], pipelined_per_s=pipelined[0],
                  connection_per_s=fresh[0], unix_set_per_s=unix[0],
                  unix_connection_per_s=unix_fresh[0])


if __name__ == "__main__":
    main()
