"""Connections through a proxy go on when the agent ends and another one begins: to the byte."""
import os
import signal
import threading
import time

from lib import case, proc, runtime, steady, systemd


def kill_later(guard):
    steady.kill(guard, 0.2)


class Hearing:
    """A service manager that listens all the time."""

    def __init__(self, manager):
        self._manager, self._ending = manager, threading.Event()
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _hear(self):
        while not self._ending.wait(0.005):
            self._manager.hear()

    def stop(self):
        self._ending.set()
        self._thread.join()
        self._manager.hear()


class RelayRestarts(steady.SteadyCase):
    def check(self, name, ends):
        """Streams stay, and short connections come and go, while the agent ends as `ends` says."""
        guard, engine = self.guard(name, steady.relaying_policy(default="deny"))
        server = self.serve_relayed()
        self.far.reset()
        end = self.relayed(guard, engine)
        keeper = guard.keeper_pid()
        for how in ends:
            how(guard)
            time.sleep(0.4)
        said = end()
        server.stop()
        counted = steady.numbers(server.output())
        self.assertEqual(guard.keeper_pid(), keeper)
        told = f"{said}\n{counted}\n{guard.log()[-3000:]}"
        print(f"{name}: {said}", flush=True)
        self.check_relayed(said, counted, told, at_once=True)
        # Nothing of them is left behind.
        proc.wait_until(lambda: steady.kept_sockets(keeper) <= 0, 30, "the keeper has closed them")
        return said, told

    def test_streams_go_on_with_runc(self):
        self.check("runc", [kill_later, steady.restart, steady.upgrade, steady.upgrade_killed,
                            kill_later])

    def test_streams_go_on_with_crun(self):
        self.check("crun", [kill_later, steady.restart])

    def test_short_connections_go_on_with_runc(self):
        """Each of a few milliseconds: one is always under way when the agent is killed."""
        said, told = self.check("runc", [steady.kill] * 8)
        self.assertGreater(said["short"][0], 20, told)

    def test_short_connections_go_on_over_upgrades(self):
        """The next agent is there before this one has ended, in order."""
        said, told = self.check("runc", [steady.upgrade] * 7)
        self.assertGreater(said["short"][0], 20, told)

    def test_streams_go_on_with_the_store_of_systemd(self):
        with systemd.Systemd(self.directory) as manager:
            guard, engine = self.guard("runc", steady.relaying_policy(default="deny"),
                                       prefix=manager.prefix())
            server = self.serve_relayed()
            hearing = Hearing(manager)
            end = self.relayed(guard, engine,
                               lambda: sum(name.startswith("relay-") for name in list(manager.kept)))
            for number in (signal.SIGKILL, signal.SIGTERM):
                guard.stop(number)
                hearing.stop()
                guard.use_prefix(manager.prefix())
                guard.start()
                hearing = Hearing(manager)
                time.sleep(0.3)
            # A connection that ended with the first agent hears of it when its SYN is sent again
            # (tcp(7), after a second): others come after it.
            time.sleep(2)
            said = end()
            server.stop()
            told = f"{said}\n{server.output()}\n{guard.log()[-3000:]}"
            self.check_relayed(said, steady.numbers(server.output()), told)
            engine.close()
            proc.wait_until(lambda: not manager.kept, 30, "nothing is kept any more")
            hearing.stop()

    def late(self, how):
        """A socket in non-blocking mode that waits for its proxy is connected by the next agent."""
        guard, engine = self.guard("runc", steady.relaying_policy(default="deny"))
        self.serve_relayed()
        log = os.path.join(self.directory, runtime.Runtime.new_id() + ".log")
        _, process = engine.start(self.bundle("/bin/relayed", "late", steady.RELAYED), log)
        keeper = guard.keeper_pid()
        guard.process.wait_for(lambda: steady.kept_sockets(keeper) >= 2, 20, "it is held and kept")
        how(guard)
        process.wait(30)
        self.assertEqual(steady.numbers(process.output()), {"late": [1, 0]}, guard.log()[-3000:])
        self.assertIn("waited for a proxy", guard.log())
        proc.wait_until(lambda: steady.kept_sockets(keeper) <= 0, 30, "the keeper has closed them")

    def test_a_connect_that_waits_for_its_proxy_goes_on_after_a_kill(self):
        self.late(kill_later)

    def test_a_connect_that_waits_for_its_proxy_goes_on_after_an_upgrade(self):
        self.late(steady.upgrade)


if __name__ == "__main__":
    case.main()
