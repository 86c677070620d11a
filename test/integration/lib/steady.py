"""A container that connects and sends without a pause, and somebody outside who counts."""
import os

from . import agent, bundle, case, env, network, proc, rootfs, runtime

TCP, DATAGRAMS = ("blocking", "nonblocking"), ("sendto", "sendmsg", "sendmmsg")


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
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), ("steady", "probe"))

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

    def serve(self):
        """The other side of steady; returns the process."""
        ready = os.path.join(self.directory, runtime.Runtime.new_id())
        server = proc.Process([env.tool("ip"), "netns", "exec", self.far.far,
                               env.test_program("steady"), "serve", ready], ready + ".log")
        self.addCleanup(server.stop)
        server.wait_for(lambda: os.path.exists(ready), 10, "the other side listens")
        return server

    def steady(self, engine):
        """Starts it; returns a function that ends it and returns what it says."""
        log = os.path.join(self.directory, runtime.Runtime.new_id() + ".log")
        container, process = engine.start(
            self.bundle("/bin/steady", "run", self.far.GOOD4, self.far.BAD4), log)
        process.wait_for(lambda: "running" in process.output(), 10, "it runs")

        def end():
            proc.run(engine.command("kill", container, "TERM", guarded=False))
            process.wait(30)
            return numbers(process.output())

        return end

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
