"""A container's network and what is on the other side of it, with nftables as ground truth."""
import itertools
import json
import os
import time

from . import env
from .proc import Process, run, wait_until

_SERVER = os.path.join(os.path.dirname(__file__), "far_server.py")
_IDS = itertools.count()
_TABLE = """
table inet oakum_count {
  set seen4 { type ipv4_addr . inet_proto . inet_service; flags dynamic; counter; }
  set seen6 { type ipv6_addr . inet_proto . inet_service; flags dynamic; counter; }
  counter other {}
  chain pre {
    type filter hook prerouting priority raw;
    iifname != "far0" return
    icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 } return
    meta nfproto ipv4 meta l4proto { tcp, udp } update @seen4 { ip daddr . meta l4proto . th dport } return
    meta nfproto ipv6 meta l4proto { tcp, udp } update @seen6 { ip6 daddr . meta l4proto . th dport } return
    counter name other
  }
}
"""


class FarSide:
    """Two network namespaces joined by a veth pair. The inner one is for the container; in the far
    one every address answers (tcp and udp echo on the given ports) and nftables counts what comes
    out of the container by destination. Neighbour discovery and multicast listener reports of the
    container's kernel are left out of the counts."""

    INNER4, INNER6 = "10.77.0.2", "fd77::2"
    GATEWAY4, GATEWAY6 = "10.77.0.1", "fd77::1"
    # Addresses that tests take for "allowed" and "not allowed"; all of them answer.
    GOOD4, BAD4 = "10.77.0.10", "203.0.113.20"
    GOOD6, BAD6 = "fd77::10", "2001:db8::20"

    def __init__(self, directory, ports=(53, 80, 443, 9050)):
        tag = f"oak{os.getpid()}x{next(_IDS)}"
        self.inner, self.far = f"{tag}i", f"{tag}f"
        self.directory = directory
        self.ports = tuple(ports)
        self._ip, self._nft = env.tool("ip"), env.tool("nft")
        self._server = None
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    @property
    def netns(self):
        """Path of the container's network namespace."""
        return f"/run/netns/{self.inner}"

    def _build(self):
        for name in (self.inner, self.far):
            run([self._ip, "netns", "add", name])
            self.in_netns(name, self._ip, "link", "set", "lo", "up")
        run([self._ip, "link", "add", "in0", "netns", self.inner, "type", "veth", "peer", "name",
             "far0", "netns", self.far])
        for name, link, v4, v6 in ((self.inner, "in0", self.INNER4, self.INNER6),
                                   (self.far, "far0", self.GATEWAY4, self.GATEWAY6)):
            self.in_netns(name, self._ip, "addr", "add", f"{v4}/24", "dev", link)
            self.in_netns(name, self._ip, "-6", "addr", "add", f"{v6}/64", "dev", link, "nodad")
            self.in_netns(name, self._ip, "link", "set", link, "up")
        self.in_netns(self.inner, self._ip, "route", "add", "default", "via", self.GATEWAY4)
        self.in_netns(self.inner, self._ip, "-6", "route", "add", "default", "via", self.GATEWAY6)
        # The far side takes every address for its own; on the link itself it answers ARP for
        # GOOD4 and GOOD6 because they are added to the interface.
        self.in_netns(self.far, self._ip, "addr", "add", f"{self.GOOD4}/32", "dev", "far0")
        self.in_netns(self.far, self._ip, "-6", "addr", "add", f"{self.GOOD6}/128", "dev", "far0",
                      "nodad")
        self.in_netns(self.far, self._ip, "route", "add", "local", "0.0.0.0/0", "dev", "lo",
                      "table", "main")
        self.in_netns(self.far, self._ip, "-6", "route", "add", "local", "::/0", "dev", "lo",
                      "table", "main")
        self.in_netns(self.far, self._nft, "-f", "-", stdin=_TABLE)
        ready = os.path.join(self.directory, f"{self.far}.ready")
        self._server = Process(
            [self._ip, "netns", "exec", self.far, "/usr/bin/python3", _SERVER, ready,
             *self.ports], os.path.join(self.directory, f"{self.far}.log"))
        self._server.wait_for(lambda: os.path.exists(ready), 30, "the far servers listen")

    @staticmethod
    def in_netns(name, *args, **options):
        return run([env.tool("ip"), "netns", "exec", name, *args], **options)

    def exec_inner(self, *args, **options):
        """Runs a command in the container's network namespace, outside any container."""
        return self.in_netns(self.inner, *args, **options)

    def _table(self):
        text = self.in_netns(self.far, self._nft, "-j", "list", "table", "inet", "oakum_count").stdout
        return json.loads(text)["nftables"]

    def packets(self, address=None, protocol=None, port=None):
        """Packets that left the container for this destination; None stands for any. With no
        argument at all every IP packet counts, also of other protocols."""
        total = 0
        for entry in self._table():
            for element in entry.get("set", {}).get("elem", []):
                value = element["elem"]["val"]["concat"]
                if all(want is None or str(want) == str(got)
                       for want, got in zip((address, protocol, port), value)):
                    total += element["elem"]["counter"]["packets"]
            if "counter" in entry and (address, protocol, port) == (None, None, None):
                total += entry["counter"]["packets"]
        return total

    def seen(self):
        """Where packets went, as text: what to show when a count is not what it should be."""
        lines = []
        for entry in self._table():
            for element in entry.get("set", {}).get("elem", []):
                value = " ".join(map(str, element["elem"]["val"]["concat"]))
                lines.append(f"{value}: {element['elem']['counter']['packets']}")
            if entry.get("counter", {}).get("packets"):
                lines.append(f"other protocols: {entry['counter']['packets']}")
        return "\n".join(lines)

    def reset(self):
        """Sets all counts to zero."""
        self.in_netns(self.far, self._nft, "-f", "-", stdin="""
            flush set inet oakum_count seen4
            flush set inet oakum_count seen6
            reset counters table inet oakum_count
        """)

    def wait_quiet(self, seconds=1.5, limit=15):
        """Waits until nothing has left for so long: what an engine and the kernel do when a network
        is made (IGMP reports are repeated within a second, RFC 3376 section 8.11) is no container's."""
        still_since, before = time.monotonic(), self.packets()
        deadline = still_since + limit
        while time.monotonic() - still_since < seconds and time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.packets()
            if now != before:
                still_since, before = time.monotonic(), now

    def settle(self, address, minimum=1):
        """Waits until at least `minimum` packets for the address have been counted."""
        return wait_until(lambda: self.packets(address) >= minimum, 30, f"packets to {address}")

    def close(self):
        if self._server is not None:
            self._server.stop()
        for name in (self.inner, self.far):
            run([self._ip, "netns", "del", name], check=False)
