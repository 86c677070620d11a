"""The packaged unit under a real systemd: containers go on when the agent is killed, restarted and
upgraded, for systemd's store has what they need."""
import os

from lib import case, proc, runtime, service_manager, steady

FAR = steady.network.FarSide
LATE = 8  # connections; the agent makes the sockets that hold them by 1, 1, 2 and 4, each at one port
PORTS = 4
SESSION = 5  # descriptors of a container's session


class SystemdTest(steady.SteadyCase):
    def service(self, name):
        self.manager = service_manager.ServiceManager(self.directory)
        self.addCleanup(self.manager.close)
        policy = steady.relaying_policy(default="deny", allow=[FAR.GOOD4])
        guard = service_manager.Service(self.manager, policy, runtime=name)
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
        before = guard.kept()
        # A connection's listener is the session's, which the store has already.
        end_relayed = self.relayed(guard, engine, lambda: (guard.kept() - before) // 4)
        pids = [guard.pid()]
        for how in (guard.kill, guard.restart, guard.upgrade, guard.restart, self.reexec,
                    guard.kill):
            how()
            pids.append(guard.pid())
        self.assertEqual(len(set(pids)), 5, pids)
        said, said_relayed = end(), end_relayed()
        server.stop()
        relay_server.stop()
        counted, counted_relayed = (steady.numbers(one.output()) for one in (server, relay_server))
        told = f"{said}\n{counted}\n{said_relayed}\n{counted_relayed}\n{guard.log()[-3000:]}"
        print(told, flush=True)
        self.check_counts(said, counted, told)
        self.check_relayed(said_relayed, counted_relayed, told)
        proc.wait_until(lambda: guard.kept() == 0, 10, "nothing is kept any more")

    def reexec(self):
        """As an upgrade of systemd does."""
        self.manager.systemctl("daemon-reexec")

    def test_containers_go_on_with_runc(self):
        self.check("runc")

    def test_containers_go_on_with_crun(self):
        self.check("crun")

    def test_connections_that_wait_at_one_port_go_on(self):
        """A store keeps a descriptor once, whatever it is handed it for."""
        guard, engine = self.service("runc")
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
        proc.wait_until(lambda: guard.kept() == 0, 10, "nothing is kept any more")

    @staticmethod
    def held(guard):
        """How many descriptors the store has of connections that wait."""
        return guard.kept() - SESSION


if __name__ == "__main__":
    case.main()
