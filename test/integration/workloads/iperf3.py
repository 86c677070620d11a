"""iperf3 over loopback and to the far side: TCP both ways, several streams, and UDP. A server takes one
client after the other and makes its listening socket anew in between, so each measurement has its own."""
import json

import common
from common import FAR, Server, run

IPERF = "/usr/bin/iperf3"
PORTS = {"tcp": "5201", "reverse": "5202", "streams": "5203", "udp": "5204"}
MEASUREMENTS = {
    "tcp": ["--bytes", "500M"],
    "reverse": ["--reverse", "--bytes", "500M"],
    "streams": ["--parallel", "4", "--bytes", "500M"],
    "udp": ["--udp", "--bitrate", "50M", "--time", "1"],
}


def measure(address, name):
    """(sum that was sent, sum that was received), as iperf3 tells them."""
    end = json.loads(run(IPERF, "--json", "--client", address, "--port", PORTS[name],
                         *MEASUREMENTS[name]))["end"]
    if "sum" in end and "sum_sent" not in end:
        return end["sum"], end["sum"]
    return end["sum_sent"], end["sum_received"]


def main():
    common.work_directory()
    outcome, figures = {}, {}

    def note(place, address, name):
        sent, received = measure(address, name)
        outcome[f"{place} {name}"] = [sent["bytes"] > 0, received["bytes"] > 0]
        figures[f"{place}_{name}_mbit_per_s"] = received["bits_per_second"] / 1e6

    for name, port in PORTS.items():
        # It takes any connection for a client, also one that only looks whether it listens.
        with Server(IPERF, "--server", "--bind", "127.0.0.1", "--port", port, "--forceflush",
                    says="Server listening"):
            note("loopback", "127.0.0.1", name)
        note("far", FAR, name)
    common.report(outcome, **figures)


if __name__ == "__main__":
    main()
