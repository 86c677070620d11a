"""What the benchmarks share that run programs beside each other: a network of their own, turns, medians."""
import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("OAKUM_BUILD_DIR", os.path.join(ROOT, "build/release"))
OAKUM = os.path.join(BUILD, "bin/oakum")
LOAD = os.path.join(BUILD, "test/oakum-proxy-load")
# The guard: a policy that allows what the programs do, and decides each connect.
GUARD = [OAKUM, "run", "--mode", "enforce", "--allow", "127.0.0.0/8", "--allow", "[::1]", "--"]


def arguments(name, text, repeats, starts=None, **choices):
    """The options that all have, and --starts where that is a number; `choices` for --only."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--quick", action="store_true", help="little work: only that it runs")
    parser.add_argument("--repeats", type=int, default=repeats, help="the medians are shown")
    if starts is not None:
        parser.add_argument("--starts", type=int, default=starts,
                            help="of the servers, each with so many repeats")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("--only", metavar="WORD", help="the rows with this in their name", **choices)
    options = parser.parse_args()
    if options.quick:
        options.repeats = options.starts = 1
    if os.geteuid() != 0:
        print(f"SKIPPED bench/{name}: needs root, for a network namespace")
        sys.exit(77)
    return options


def own_network():
    """Goes on in a network namespace that has nothing but loopback."""
    if "OAKUM_BENCH_NETNS" not in os.environ:
        os.execvp("unshare", ["unshare", "-n", "env", "OAKUM_BENCH_NETNS=1", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Connections by the thousand: their ends would stay in TIME_WAIT and use up the ports.
    with open("/proc/sys/net/ipv4/tcp_max_tw_buckets", "w", encoding="ascii") as out:
        out.write("0")


def output(command, timeout=300, **options):
    """What a command prints; its failure is the end."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_guard():
    """Fails unless what GUARD does not allow is refused by it, and by nothing else."""
    probe = [sys.executable, "-c", "import errno, socket; print(errno.errorcode["
             "socket.socket().connect_ex(('192.0.2.1', 9))])"]
    bare, guarded = output(probe).strip(), output([*GUARD, *probe]).strip()
    if bare != "ENETUNREACH" or guarded != "EACCES":
        sys.exit(f"what is to be denied gets {guarded} with a guard and {bare} without")


def in_turns(ways, repeats):
    """name -> median of what each of the functions returns (a figure, or figures by name), in turns."""
    runs = {name: [] for name in ways}
    for _ in range(repeats):
        for name, measure in ways.items():
            runs[name].append(measure())
    return {name: {key: statistics.median(run[key] for run in of) for key in of[0]}
            if isinstance(of[0], dict) else statistics.median(of) for name, of in runs.items()}


def write(options, report):
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(report, out, indent=2)
