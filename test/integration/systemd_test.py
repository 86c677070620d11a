"""The packaged units under a real systemd: containers go on when the agent is killed, restarted and
upgraded, for systemd's store and a keeper have what they need."""
import errno
import os
import socket
import types

from lib import case, proc, proxies, runtime, service_manager, steady

FAR = steady.network.FarSide
LATE = 8  # connections; the agent makes the sockets that hold them by 1, 1, 2 and 4, each at one port
PORTS = 4
SESSION = 5  # descriptors of a container's session
LIFE = 1  # the pipe that says that the service is not stopped


class SystemdTest(steady.SteadyCase):
    def service(self, name, keeper=True, proxy=None):
        self.manager = service_manager.ServiceManager(self.directory)
        self.addCleanup(self.manager.close)
        policy = steady.relaying_policy(default="deny", allow=[FAR.GOOD4])
        policy["proxies"]["far"] = proxy or policy["proxies"]["far"]
        guard = service_manager.Service(self.manager, policy, runtime=name, keeper=keeper)
        guard.start()
        engine = runtime.Runtime(name, self.directory, config=guard.config,
                                 prefix=self.manager.prefix())
        self.addCleanup(engine.close)
        return guard, engine

    def check(self, name):
        guard, engine = self.service(name)
        server, relay_server = self.serve(), self.serve_relayed()
        self.far.reset()
        end = self.steady(engine)
        guard.wait_events(1, timeout=20)
        end_relayed = self.relayed(guard, engine, lambda: self.kept_relays(guard))
        self.assertLessEqual(guard.kept(), LIFE + 2 * SESSION)
        pids, keeper = [guard.pid()], guard.keeper_pid()
        for how in (guard.kill, guard.restart, guard.upgrade, guard.restart, self.reexec,
                    guard.kill):
            how()
            pids.append(guard.pid())
        self.assertEqual(len(set(pids)), 5, pids)
        self.assertEqual(guard.keeper_pid(), keeper)
        said, said_relayed = end(), end_relayed()
        server.stop()
        relay_server.stop()
        counted, counted_relayed = (steady.numbers(one.output()) for one in (server, relay_server))
        told = f"{said}\n{counted}\n{said_relayed}\n{counted_relayed}\n{guard.log()[-3000:]}"
        print(told, flush=True)
        self.check_counts(said, counted, told)
        self.check_relayed(said_relayed, counted_relayed, told, at_once=True)
        self.assertGreater(said_relayed["short"][0], 20, told)
        self.check_nothing_is_kept(guard)

    @staticmethod
    def kept_relays(guard):
        """With the keeper, to which each relay is three ends of pipes."""
        return guard.kept_pipes() // 3

    @staticmethod
    def check_nothing_is_kept(guard):
        proc.wait_until(lambda: (guard.kept(), guard.kept_pipes()) == (LIFE, LIFE), 30,
                        "nothing is kept any more")

    def reexec(self):
        """As an upgrade of systemd does."""
        self.manager.systemctl("daemon-reexec")

    def test_containers_go_on_with_runc(self):
        self.check("runc")

    def test_containers_go_on_with_crun(self):
        self.check("crun")

    def streams(self, guard, engine, kept, *hows):
        """Streams go on while that is done; returns what was said in all."""
        server = self.serve_relayed()
        end = self.relayed(guard, engine, kept)
        for how in hows:
            how()
        said = end()
        server.stop()
        counted = steady.numbers(server.output())
        told = f"{said}\n{counted}\n{guard.log()[-3000:]}"
        self.check_relayed(said, counted, told)
        return told

    def test_a_keeper_that_is_killed_is_handed_all_again(self):
        guard, engine = self.service("runc")
        self.streams(guard, engine, lambda: self.kept_relays(guard), guard.kill_keeper, guard.kill)
        self.assertIn("the keeper of connections has ended", guard.log())
        self.check_nothing_is_kept(guard)

    def test_without_a_keeper_streams_are_in_the_store(self):
        guard, engine = self.service("runc", keeper=False)
        before = guard.kept()
        # A connection's listener is the session's, which the store has already.
        told = self.streams(guard, engine, lambda: (guard.kept() - before - SESSION) // 4,
                            guard.kill, guard.restart)
        self.assertIn("connections younger than 50 ms are reset when this agent is killed", told)
        proc.wait_until(lambda: guard.kept() == LIFE, 30, "nothing is kept any more")

    def test_a_keeper_that_ends_leaves_connections_to_the_store(self):
        """As where its unit fails, or is stopped."""
        guard, engine = self.service("runc")

        def stop_keeper():
            self.manager.systemctl("stop", guard.KEEPER)
            proc.wait_until(lambda: "kept again" in guard.log(), 20, "all is handed to the store")

        self.streams(guard, engine, lambda: self.kept_relays(guard), stop_keeper, guard.kill)
        proc.wait_until(lambda: guard.kept() == LIFE, 30, "nothing is kept any more")

    def test_a_stopped_service_leaves_nothing_behind(self):
        """Its containers' connections are reset, and their calls fail."""
        guard, engine = self.service("runc")
        self.serve_relayed()
        _, end = self.run_program(engine, "/bin/relayed", "run", steady.RELAYED)
        guard.process.wait_for(lambda: self.kept_relays(guard) == len(steady.STREAMS), 20,
                               "they are kept")
        guard.stop()
        proc.wait_until(lambda: guard.kept_pipes() == 0, 30, "the keeper has closed them")
        said = end()
        for name in steady.STREAMS:
            self.assertEqual(said[name][2:], [0, errno.ECONNRESET], said)

    def test_connections_that_wait_at_one_port_go_on(self):
        """A store keeps a descriptor once, whatever it is handed it for."""
        guard, engine = self.service("runc", keeper=False)
        self.serve_relayed()
        log = os.path.join(self.directory, runtime.Runtime.new_id() + ".log")
        late = f"/bin/relayed late {steady.RELAYED} & " * LATE + "wait"
        _, process = engine.start(self.bundle("/bin/sh", "-c", late), log)
        guard.process.wait_for(lambda: self.held(guard) >= LATE + PORTS, 20,
                               "all are held and kept")
        self.assertLess(self.held(guard), 2 * LATE)  # some share a port
        guard.kill()
        process.wait(30)
        self.assertEqual(process.output(), "late 1 0\n" * LATE, guard.log()[-3000:])
        self.assertIn(f"{LATE} connections that waited for a proxy", guard.log())
        proc.wait_until(lambda: guard.kept() == LIFE, 30, "nothing is kept any more")

    def test_connections_over_tls_go_on(self):
        """The process that speaks it outlives the service's, in the same cgroup."""
        far = types.SimpleNamespace(netns=f"/run/netns/{self.far.far}", host=FAR.GATEWAY4, port=7010)
        door = proxies.UnixDoor(self.directory, far, os.path.join(self.directory, "door"))
        authority = proxies.Authority(self.directory)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        front = proxies.Stunnel(self.directory, door, *authority.issue("127.0.0.1"), netns=None,
                                host="127.0.0.1", port=port)
        guard, engine = self.service("runc", proxy={
            "url": f"socks5+tls://127.0.0.1:{port}", "ca": authority.path})
        self.serve_relayed()
        for proxy in (door, front):
            proxy.start()
            self.addCleanup(proxy.stop)
        _, end = self.run_program(engine, "/bin/relayed", "many", steady.RELAYED, "4")
        proc.wait_until(lambda: guard.kept_pipes() >= LIFE + 4, 30, "they are kept")
        for how in (guard.kill, guard.restart, guard.upgrade, guard.restart, guard.kill):
            how()
        self.assertEqual(end()["many"], [4, 0, 0], guard.log()[-3000:])
        self.assertIn("4 connections through proxies go on", guard.log())
        _, end = self.run_program(engine, "/bin/relayed", "many", steady.RELAYED, "4")
        guard.stop()
        proc.wait_until(lambda: steady.tls_processes(guard) == [], 30, "nobody speaks TLS any more")
        self.assertEqual(end()["many"][0], 0)

    @staticmethod
    def held(guard):
        """How many descriptors the store has of connections that wait."""
        return guard.kept() - SESSION - LIFE


if __name__ == "__main__":
    case.main()
