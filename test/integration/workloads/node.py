"""node: an http server and two hundred parallel requests, names, unix sockets, datagrams, workers."""
import common


def main():
    common.work_directory()
    with common.Timer() as timer:
        lines = common.run("/usr/bin/node", "/workloads/node_program.js", timeout=100).splitlines()
    common.report({"lines": lines}, work_s=timer.seconds)


if __name__ == "__main__":
    main()
