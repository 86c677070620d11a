"""How long an agent takes to go on with many sessions, and many connections that wait for their proxies.
By options as many as a node may have: OAKUM_ADOPT_SESSIONS, OAKUM_ADOPT_HELD."""
import os
import subprocess
import time

from lib import agent, case, env, proc, runtime, steady

SESSIONS = int(os.environ.get("OAKUM_ADOPT_SESSIONS", "100"))
HELD = int(os.environ.get("OAKUM_ADOPT_HELD", "100"))  # of each of two containers


def processor_time(pid):
    """In seconds, so far (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class AdoptionTest(steady.SteadyCase):
    def test_many_sessions(self):
        guard = agent.Agent(self.directory, agent.single_policy({"mode": "enforce", "outgoing": {
            "default": "deny", "allow": ["127.0.0.0/8"]}}))
        self.addCleanup(guard.stop)
        guard.start()
        containers = subprocess.Popen(
            [env.test_program("sessions"), guard.socket, str(SESSIONS), "0"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(containers.wait)
        self.addCleanup(containers.stdout.close)
        self.addCleanup(containers.stdin.close)
        self.addCleanup(containers.kill)
        self.assertEqual(containers.stdout.readline(), f"{SESSIONS} ok\n")

        def round_of_calls():
            containers.stdin.write("\n")
            containers.stdin.flush()

        began = time.monotonic()
        round_of_calls()
        self.assertEqual(containers.stdout.readline(), f"{SESSIONS} ok\n")
        usual = time.monotonic() - began
        guard.kill()
        round_of_calls()
        time.sleep(0.2)
        began = time.monotonic()
        guard.start()
        listens = time.monotonic() - began
        self.assertEqual(containers.stdout.readline(), f"{SESSIONS} ok\n", guard.log()[-2000:])
        answered = time.monotonic() - began
        self.assertIn(f"{SESSIONS} sessions of an agent before this one go on", guard.log())
        print(f"{SESSIONS} sessions: the next agent listens after {listens:.3f} s, all calls that "
              f"waited are answered after {answered:.3f} s, of which it used "
              f"{processor_time(guard.process.pid):.2f} s of a processor; as many calls usually take "
              f"{usual:.3f} s", flush=True)

    def test_many_connections_that_wait(self):
        guard, engine = self.guard("runc", steady.relaying_policy(default="deny"))
        ready, go = (os.path.join(self.directory, name) for name in ("proxy-ready", "proxy-go"))
        proxy = proc.Process(
            [env.tool("ip"), "netns", "exec", self.far.far, "/usr/bin/python3",
             os.path.join(os.path.dirname(__file__), "lib", "patient_proxy.py"),
             self.far.GATEWAY4, "7010", ready, go], ready + ".log")
        self.addCleanup(proxy.stop)
        proxy.wait_for(lambda: os.path.exists(ready), 30, "the proxy listens")
        programs = []
        for _ in range(2):
            log = os.path.join(self.directory, runtime.Runtime.new_id() + ".log")
            programs.append(engine.start(
                self.bundle("/bin/held", steady.RELAYED, "7014", str(HELD)), log)[1])
        keeper = guard.keeper_pid()
        # Each has a socket, and shares another one.
        guard.process.wait_for(lambda: all(f"begun {HELD}" in one.output() for one in programs) and
                               steady.kept_sockets(keeper) >= 4 * HELD, 60, "all are kept")
        guard.kill()
        began = time.monotonic()
        guard.start()
        listens = time.monotonic() - began
        self.assertIn(f"{2 * HELD} connections that waited for a proxy ask it again", guard.log())
        with open(go, "w", encoding="ascii"):
            pass
        for one in programs:
            one.wait(60)
            self.assertIn(f"connected {HELD} 0 0\n", one.output(), guard.log()[-2000:])
        print(f"{2 * HELD} connections that wait: the next agent listens after {listens:.3f} s, all "
              f"are connected after {time.monotonic() - began:.3f} s, of which it used "
              f"{processor_time(guard.process.pid):.2f} s of a processor", flush=True)

    def bundle(self, *args):
        """With room for as many descriptors."""
        path = super().bundle(*args)
        with open(os.path.join(path, "config.json"), encoding="utf-8") as text:
            config = text.read().replace('"hard": 1024, "soft": 1024', '"hard": 8192, "soft": 8192')
        agent.write_json(os.path.join(path, "config.json"), config)
        return path


if __name__ == "__main__":
    case.main()
