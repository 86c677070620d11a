"""oakum-agent with a configuration of its own."""
import itertools
import json
import os
import signal
import socket
import struct

from . import env
from .proc import Process, wait_until

_IDS = itertools.count()


def write_json(path, document):
    """Writes a document, or a text as it is."""
    with open(path, "w", encoding="utf-8") as out:
        if isinstance(document, str):
            out.write(document)
        else:
            json.dump(document, out, indent=1)
    return path


def single_policy(policy, name="test"):
    """A policy file in which one policy fits every container."""
    return {"version": 1, "policies": {name: policy}, "containers": [{"match": {}, "policy": name}]}


class Agent:
    """Directory with config.json, policy.json, the socket and the events file; start() runs the
    agent on them."""

    def __init__(self, directory, policy, *, runtime="runc", arguments=(), prefix=(),
                 events_path=None):
        self.directory = os.path.join(directory, f"agent-{next(_IDS)}")
        os.makedirs(self.directory)
        self.socket = os.path.join(self.directory, "agent.sock")
        self.events_path = events_path or os.path.join(self.directory, "events.jsonl")
        self.policy_path = write_json(os.path.join(self.directory, "policy.json"), policy)
        self.config = write_json(
            os.path.join(self.directory, "config.json"),
            {"runtime": runtime, "socket": self.socket, "policy": self.policy_path})
        self.log_path = os.path.join(self.directory, "agent.log")
        self._arguments = list(arguments)
        self._prefix = list(prefix)  # a command that runs another one
        self.process = None

    def use_prefix(self, prefix):
        """Another command that runs the agent, from its next start on."""
        self._prefix = list(prefix)

    def start(self):
        program = env.program("oakum-agent")
        self.process = Process([*self._prefix, program, "--config", self.config, "--events",
                                self.events_path, "--control",
                                os.path.join(self.directory, "control.sock"), *self._arguments],
                               self.log_path)
        self.process.wait_for(self._listens, 30, "the agent listens")
        return self

    def replace(self, number):
        """Ends the agent and starts another one without waiting for its end."""
        before = self.process
        before.send_signal(number)
        self.start()
        before.wait(30)
        self.process.wait_for(self._listens, 30, "the agent listens")

    def _listens(self):
        """Whether somebody answers at the socket, which has its name a moment earlier."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket) == 0

    def keeper_pid(self):
        """Of the process that keeps this agent's sessions."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.connect(self.socket + ".keeper")
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return struct.unpack("3i", credentials)[0]

    def stop(self, number=signal.SIGTERM):
        if self.process is None:
            return None
        status = self.process.stop(number)
        for report in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error: ",
                       "WARNING: ThreadSanitizer"):
            if report in self.log():
                raise AssertionError(f"the agent's sanitizer reports:\n{self.log()}")
        return status

    def kill(self):
        """As a crash would."""
        return self.stop(signal.SIGKILL)

    def set_policy(self, policy):
        """Replaces the policy file; a running agent is not told."""
        write_json(self.policy_path, policy)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def log(self):
        return self.process.output() if self.process is not None else ""

    def events(self, **wanted):
        """The events so far whose fields have these values; "a.b" is written a__b."""
        if not os.path.exists(self.events_path):
            return []
        with open(self.events_path, encoding="utf-8") as lines:
            events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [e for e in events
                if all(field(e, key.replace("__", ".")) == value for key, value in wanted.items())]

    def wait_events(self, count=1, timeout=30, **wanted):
        """events(), once there are at least `count`."""
        try:
            wait_until(lambda: len(self.events(**wanted)) >= count, timeout,
                       f"{count} events with {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}\nevents: {self.events()}\nlog: {self.log()}") from None
        return self.events(**wanted)


def field(event, path):
    """A field of an event by its dotted name, whether it is nested or has dots in its key."""
    if path in event:
        return event[path]
    value = event
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value
