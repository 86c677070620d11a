"""iperf3 over loopback and to the far side: TCP both ways, several streams, and UDP."""
import json
import sys
import time

import common
from common import FAR, Server, run

IPERF = "/usr/bin/iperf3"


def measure(*args):
    """(sum that was sent, sum that was received), as iperf3 tells them."""
    # The server takes one client after the other, and makes a new listening socket for each: it may
    # not be done with the last one.
    for _ in range(100):
        report = json.loads(run(IPERF, "--json", *args, statuses=(0, 1)))
        error = report.get("error", "")
        if "busy" not in error and "refused" not in error:
            break
        time.sleep(0.1)
    if "error" in report:
        sys.exit(f"iperf3 {' '.join(args)}: {report['error']}")
    end = report["end"]
    if "sum" in end and "sum_sent" not in end:
        return end["sum"], end["sum"]
    return end["sum_sent"], end["sum_received"]


def main():
    common.work_directory()
    outcome, figures = {}, {}
    with Server(IPERF, "--server", "--bind", "127.0.0.1", listens_at=("127.0.0.1", 5201)):
        for place, address in {"loopback": "127.0.0.1", "far": FAR}.items():
            for name, args in {"tcp": ["--bytes", "500M"],
                               "reverse": ["--reverse", "--bytes", "500M"],
                               "streams": ["--parallel", "4", "--bytes", "500M"],
                               "udp": ["--udp", "--bitrate", "50M", "--time", "1"]}.items():
                sent, received = measure("--client", address, *args)
                key = f"{place}_{name}"
                outcome[key] = [sent["bytes"] > 0, received["bytes"] > 0]
                figures[key + "_mbit_per_s"] = received["bits_per_second"] / 1e6
    common.report(outcome, **figures)


if __name__ == "__main__":
    main()
