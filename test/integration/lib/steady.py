"""A container that connects and sends without a pause, and somebody outside who counts."""
import os
import signal
import time

from . import agent, bundle, case, env, network, proc, rootfs, runtime

# Where nobody is but by way of the proxy (RFC 5737).
RELAYED = "192.0.2.7"
STREAMS = ("stream1", "stream2", "stream3", "stream4")
TCP, DATAGRAMS = ("blocking", "nonblocking"), ("sendto", "sendmsg", "sendmmsg")


def relaying_policy(**outgoing):
    """A policy under which relayed can run."""
    document = agent.single_policy({"mode": "enforce", "proxy": "far",
                                    "outgoing": {**outgoing, "redirect": [RELAYED]}})
    document["proxies"] = {"far": {"url": f"socks5://{network.FarSide.GATEWAY4}:7010"}}
    return document


def kill(guard, pause=0.0):
    """The agent is killed and, `pause` seconds later, another one begins."""
    guard.kill()
    time.sleep(pause)
    guard.start()


def restart(guard):
    """The agent ends in order, and then another one begins."""
    guard.stop()
    guard.start()


def upgrade(guard):
    """Another one begins before this one has ended, in order."""
    guard.replace(signal.SIGTERM)


def upgrade_killed(guard):
    """The same, and this one is killed meanwhile."""
    guard.replace(signal.SIGKILL)


def kept_sockets(pid):
    """How many sockets of relays a keeper has."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            pass
    return count - 2  # the one that it listens on, and that of its agent


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def tls_processes(guard):
    """Those that speak TLS for the agents with that socket: process ids."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if (read(f"/proc/{pid}/comm").strip() == "oakum-tls" and
                    f"--keeper={guard.socket}" in read(f"/proc/{pid}/cmdline").split("\0")):
                found.append(int(pid))
        except OSError:
            pass
    return sorted(found)


def numbers(text):
    """"NAME NUMBER..." of each line."""
    lines = [line.split() for line in text.splitlines()]
    return {words[0]: [int(word) for word in words[1:]] for words in lines if len(words) > 1}


class SteadyCase(case.Case):
    """Tests with the container's program `steady` at work."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"),
                                        ("steady", "probe", "relayed", "held"))

    def guard(self, name, policy, **options):
        """An agent that runs, and a runtime whose containers it guards."""
        guard = agent.Agent(self.directory, policy, runtime=name, **options)
        self.addCleanup(guard.stop)
        guard.start()
        engine = runtime.Runtime(name, self.directory, config=guard.config)
        self.addCleanup(engine.close)
        return guard, engine

    def bundle(self, *args):
        return bundle.make_bundle(os.path.join(self.directory, runtime.Runtime.new_id()),
                                  bundle.make_config(self.rootfs, args, netns=self.far.netns))

    def serve(self, program="steady", *args):
        """The other side of the program; returns the process."""
        ready = os.path.join(self.directory, runtime.Runtime.new_id())
        server = proc.Process([env.tool("ip"), "netns", "exec", self.far.far,
                               env.test_program(program), "serve", ready, *args], ready + ".log")
        self.addCleanup(server.stop)
        server.wait_for(lambda: os.path.exists(ready), 30, "the other side listens")
        return server

    def steady(self, engine):
        """Starts it; returns a function that ends it and returns what it says."""
        return self.run_program(engine, "/bin/steady", "run", self.far.GOOD4, self.far.BAD4)[1]

    def serve_relayed(self, *more):
        """The other side of relayed, which is the proxy too; returns the process."""
        return self.serve("relayed", self.far.GATEWAY4, *more)

    def relayed(self, guard, engine, kept=None):
        """Starts it; returns a function that ends it and returns what it says. Its streams are kept
        by then: `kept` says how many connections are, if it is not a keeper that keeps them."""
        kept = kept or (lambda: kept_sockets(guard.keeper_pid()) // 2)
        container, end = self.run_program(engine, "/bin/relayed", "run", RELAYED)
        guard.process.wait_for(lambda: kept() >= len(STREAMS), 20, "the streams are kept")
        proc.run(engine.command("kill", container, "USR1", guarded=False))
        return end

    def run_program(self, engine, *args):
        """Starts one that says that it runs; returns its container and a function that ends it and
        returns what it says."""
        log = os.path.join(self.directory, runtime.Runtime.new_id() + ".log")
        container, process = engine.start(self.bundle(*args), log)
        process.wait_for(lambda: "running" in process.output(), 30, "it runs")

        def end():
            proc.run(engine.command("kill", container, "TERM", guarded=False))
            process.wait(30)
            return numbers(process.output())

        return container, end

    def check_counts(self, said, counted, told):
        """Every call has been answered as it should be, and has come there once."""
        for way in (*TCP, *DATAGRAMS, "denied"):
            self.assertEqual(said[way][1:], [0, 0], told)
            self.assertGreater(said[way][0], 10, told)
        for way in (*TCP, *DATAGRAMS):
            came, distinct, _ = counted[way]
            self.assertEqual((came, distinct), (said[way][0], said[way][0]), f"{way}: {told}")
        self.assertEqual(counted["accepted"], [sum(said[way][0] for way in TCP)], told)
        # A stream of which nobody can say how much was sent ends (ECONNRESET): none has a hole.
        self.assertEqual(counted["holes"], [0], told)
        self.assertEqual(self.far.packets(self.far.BAD4), 0, told)

    def check_relayed(self, said, counted, told, at_once=False):
        """Each byte of each stream has come there once, in its order, and each end as an end.
        at_once: connections are kept from their first moment on (a keeper, not only systemd)."""
        for name in STREAMS:
            sent, received, wrong, error = said[name]
            self.assertEqual((wrong, error), (0, 0), f"{name}: {told}")
            self.assertEqual(counted[name], [received, sent, 0, 0], f"{name}: {told}")
            self.assertGreater(min(sent, received), 1000, f"{name}: {told}")
        self.assertEqual(counted["streams"], [len(STREAMS)], told)
        # What was so young that it ended with its agent has ended with an error, or is not there.
        for name in ("short", "slow"):
            done, failed, _ = said[name]
            came, twice = counted[name]
            if at_once:
                self.assertEqual(failed, 0, f"{name}: {told}")
            self.assertEqual(twice, 0, f"{name}: {told}")
            self.assertLessEqual(done, came, f"{name}: {told}")
            self.assertLessEqual(came, done + failed, f"{name}: {told}")
            self.assertGreater(done, 0 if name == "short" else -1, f"{name}: {told}")
        self.assertEqual(self.far.packets(RELAYED), 0, told)


def check_all_relayed(test, said, counted, told):
    """That what `relayed run` has said and the server has counted is all, to the byte, and that no
    connection has failed."""
    for stream in STREAMS:
        sent, received, wrong, error = said[stream]
        test.assertEqual((wrong, error), (0, 0), f"{stream}: {told}")
        test.assertEqual(counted[stream][1:], [sent, 0, 0], f"{stream}: {told}")
        test.assertGreater(min(sent, received), 1000, f"{stream}: {told}")
    test.assertEqual(counted["streams"], [len(STREAMS)], told)
    for short in ("short", "slow"):
        done, failed, _ = said[short]
        test.assertEqual((failed, counted[short]), (0, [done, 0]), f"{short}: {told}")
    test.assertGreater(said["short"][0], 10, told)
