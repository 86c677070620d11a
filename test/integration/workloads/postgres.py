"""postgres and pgbench, over TCP and over its unix socket, with kept connections and with one for each
transaction; peer authentication, which asks the kernel who has connected (SO_PEERCRED)."""
import glob
import re

import common
from common import Server, Timer, run, write

# "local peer": the server asks the socket who connected.
AUTHENTICATION = """
local all all peer
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


def main():
    common.work_directory()
    # The newest of those that are installed.
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(
        path.split("/")[4]))[-1]
    password = write("password", "secret\n")
    with Timer() as initdb:
        run(f"{programs}/initdb", "--no-sync", "--pgdata", "data", "--pwfile", password, "--auth",
            "scram-sha-256", "--no-locale", "--encoding", "UTF8")
    write("data/pg_hba.conf", AUTHENTICATION)
    tcp = ["-h", "127.0.0.1", "-d", "postgres"]
    unix = ["-h", "/tmp/work", "-d", "postgres"]
    outcome = {}
    figures = {}

    def bench(name, where, *args):
        out = run(f"{programs}/pgbench", *where, "--no-vacuum", "--client", "4", "--jobs", "2",
                  *args, PGPASSWORD="secret")
        outcome[name] = re.search(r"actually processed: (\S+)", out).group(1)
        figures[name + "_per_s"] = float(re.search(r"tps = ([0-9.]+)", out).group(1))

    with Server(f"{programs}/postgres", "-D", "data", "-h", "127.0.0.1,::1", "-p", "5432", "-k",
                "/tmp/work", "-c", "fsync=off", listens_at="/tmp/work/.s.PGSQL.5432"):
        common.wait_until(lambda: common.status(
            f"{programs}/pg_isready", "--quiet", *tcp) == 0, "postgres is ready")
        run(f"{programs}/pgbench", *tcp, "--initialize", "--quiet", PGPASSWORD="secret")
        bench("tcp", tcp, "--transactions", "250")
        bench("unix", unix, "--transactions", "250")
        bench("tcp_connect", tcp, "--transactions", "25", "--connect", "--select-only")
        bench("unix_connect", unix, "--transactions", "25", "--connect", "--select-only")
        for name, where in {"tcp": tcp, "ipv6": ["-h", "::1", "-d", "postgres"],
                            "unix": unix}.items():
            outcome[f"rows {name}"] = run(
                f"{programs}/psql", *where, "--no-psqlrc", "--tuples-only", "--no-align", "-c",
                "select count(*), sum(abalance) = (select sum(bbalance) from pgbench_branches) "
                "from pgbench_accounts", PGPASSWORD="secret").strip()
    common.report(outcome, initdb_s=initdb.seconds, **figures)


if __name__ == "__main__":
    main()
