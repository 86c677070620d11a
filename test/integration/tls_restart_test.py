"""Connections to a proxy that is spoken to by TLS go on when the agent ends and another one begins, for
a process of their own speaks it; and what becomes of them when that ends."""
import os
import signal
import time
import types

from lib import case, network, proc, proxies, steady

PROXY = network.FarSide.GATEWAY4
SOCKS_PORT, TLS_PORT = 7010, 1090
COUNT = 4


class TlsRestarts(steady.SteadyCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = proxies.Authority(cls.directory)
        behind = types.SimpleNamespace(netns=f"/run/netns/{cls.far.far}", host=PROXY,
                                       port=SOCKS_PORT)
        stunnel = proxies.Stunnel(cls.directory, behind, *cls.authority.issue(PROXY), host=PROXY,
                                  port=TLS_PORT)
        stunnel.start()
        cls.addClassCleanup(stunnel.stop)

    def policy(self, **changes):
        document = steady.relaying_policy(default="deny")
        document["proxies"]["far"] = {"url": f"socks5+tls://{PROXY}:{TLS_PORT}",
                                      "ca": self.authority.path, **changes}
        return document

    def begin(self, name):
        """The agent is where the proxy is: what is encrypted need not be near the container."""
        return self.guard(name, self.policy(),
                          prefix=proxies.in_netns(f"/run/netns/{self.far.far}"))

    def ended(self, guard):
        proc.wait_until(lambda: steady.tls_processes(guard) == [], 30, "no process speaks TLS any more")

    def check(self, name, ends):
        guard, engine = self.begin(name)
        server = self.serve_relayed()
        self.far.reset()
        end = self.relayed(guard, engine)
        for how in ends:
            how(guard)
            time.sleep(0.4)
        said = end()
        server.stop()
        counted = steady.numbers(server.output())
        told = f"{said}\n{counted}\n{guard.log()[-3000:]}"
        print(f"{name}: {said}", flush=True)
        # stunnel closes both ways at the end of one, with what is still on its way.
        steady.check_all_relayed(self, said, counted, told)
        self.assertEqual(self.far.packets(steady.RELAYED), 0, told)
        self.assertNotIn("are reset", guard.log())
        # Those of agents that have ended have ended with their last connection.
        proc.wait_until(lambda: len(steady.tls_processes(guard)) <= 1, 30, "one process is left")
        guard.stop()
        self.ended(guard)

    def test_they_go_on_with_runc(self):
        self.check("runc", [steady.kill, steady.restart, steady.upgrade, steady.upgrade_killed,
                            steady.kill])

    def test_they_go_on_with_crun(self):
        self.check("crun", [steady.kill, steady.restart])

    def many(self, engine):
        return self.run_program(engine, "/bin/relayed", "many", steady.RELAYED, str(COUNT))[1]

    def test_when_the_process_is_killed_they_are_reset_and_another_one_is_started(self):
        guard, engine = self.begin("runc")
        self.serve_relayed()
        end = self.many(engine)
        before, = steady.tls_processes(guard)
        status = dict(line.split(":\t", 1) for line in steady.read(f"/proc/{before}/status").splitlines())
        for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[which], 16), 0, which)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        core = [line.split() for line in steady.read(f"/proc/{before}/limits").splitlines()
                if line.startswith("Max core file size")]
        self.assertEqual(core[0][4:6], ["0", "0"])
        # Nobody else reaches it: its sockets have no name, and none of them listens.
        names = [line.split() for line in steady.read(f"/proc/{before}/net/unix").splitlines()[1:]]
        own = {os.readlink(f"/proc/{before}/fd/{number}") for number in
               os.listdir(f"/proc/{before}/fd")}
        self.assertEqual([words for words in names
                          if f"socket:[{words[6]}]" in own and len(words) > 7], [])
        # Also where there is no agent meanwhile: the next one hears of it.
        guard.kill()
        os.kill(before, signal.SIGKILL)
        guard.start()
        after = self.many(engine)
        self.assertEqual(end()["many"], [0, COUNT, 0], guard.log()[-3000:])
        other, = steady.tls_processes(guard)
        os.kill(other, signal.SIGKILL)
        self.assertEqual(after()["many"], [0, COUNT, 0], guard.log()[-3000:])
        last = self.many(engine)
        self.assertNotIn(steady.tls_processes(guard), ([], [other]))
        self.assertEqual(last()["many"], [COUNT, 0, 0], guard.log()[-3000:])

    def test_another_trust_counts_for_new_connections(self):
        guard, engine = self.begin("runc")
        self.serve_relayed()
        end = self.many(engine)
        guard.kill()
        guard.set_policy(self.policy(ca=proxies.Authority(self.directory).path))
        guard.start()
        late = engine.run(self.bundle("/bin/relayed", "late", steady.RELAYED))
        self.assertNotIn(" 0\n", late.stdout)
        event, = guard.wait_events(1, event__action="proxy-failure")
        self.assertIn("its certificate is not to be trusted", str(event))
        self.assertEqual(end()["many"], [COUNT, 0, 0], guard.log()[-3000:])


if __name__ == "__main__":
    case.main()
