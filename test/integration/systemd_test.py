"""The packaged unit under a real systemd: containers go on when the agent is killed, restarted and
upgraded, for systemd's store has what they need."""
from lib import case, proc, runtime, service_manager, steady

FAR = steady.network.FarSide


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


if __name__ == "__main__":
    case.main()
