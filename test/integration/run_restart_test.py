"""`oakum run` goes on when its guard is killed, any number of times, and what its program has connected
by way of a proxy with it: to the byte, from the first moment on."""
import os
import random
import shutil
import signal
import time
import types

from lib import case, env, network, proxies, runtime, steady
from lib.agent import write_json
from lib.proc import Process, wait_until

PROXY = network.FarSide.GATEWAY4
SOCKS_PORT, TLS_PORT = 7010, 1090
STATUS = 5
# Not all descriptors of connections that have ended are closed yet.
SPARE_FDS = 120


class RunRestarts:
    PREFIX = ()  # what makes the command run as somebody else

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.oakum = shutil.copy(env.program("oakum"), cls.directory)
        cls.relayed = shutil.copy(env.test_program("relayed"), cls.directory)
        cls.authority = proxies.Authority(cls.directory)
        behind = types.SimpleNamespace(netns=f"/run/netns/{cls.far.far}", host=PROXY,
                                       port=SOCKS_PORT)
        stunnel = proxies.Stunnel(cls.directory, behind, *cls.authority.issue(PROXY), host=PROXY,
                                  port=TLS_PORT)
        stunnel.start()
        cls.addClassCleanup(stunnel.stop)
        os.chmod(cls.authority.path, 0o644)
        seed = os.environ.get("OAKUM_RESTART_SEED") or str(random.randrange(1 << 32))
        print(f"OAKUM_RESTART_SEED={seed}", flush=True)
        cls.chance = random.Random(f"{seed}-{cls.__name__}")

    def policy(self, url, **changes):
        document = steady.relaying_policy(default="deny")
        document["proxies"]["far"] = {"url": url, **changes}
        return write_json(os.path.join(self.directory, runtime.Runtime.new_id() + ".json"), document)

    def plain(self):
        return self.policy(f"socks5://{PROXY}:{SOCKS_PORT}")

    def tls(self):
        return self.policy(f"socks5+tls://{PROXY}:{TLS_PORT}", ca=self.authority.path)

    def ours(self, name=None):
        """Processes of that program, which is this test's alone: under that name, or any."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if (os.readlink(f"/proc/{pid}/exe") == self.oakum and
                        name in (None, steady.read(f"/proc/{pid}/comm").strip())):
                    found.append(int(pid))
            except OSError:
                pass
        return sorted(found)

    def guard(self, process):
        """The process that guards now: its pid, or None."""
        guards = [pid for pid in self.ours("oakum") if pid != process.pid]
        return guards[0] if len(guards) == 1 else None

    def start(self, policy, *command, prefix=()):
        args = [env.tool("ip"), "netns", "exec", self.far.inner, *prefix, *self.PREFIX, self.oakum,
                "run", "--policy", policy, "--", *command]
        process = Process(args, os.path.join(self.directory, runtime.Runtime.new_id() + ".log"))
        self.addCleanup(process.stop)
        return process

    def kill(self, process):
        """Returns once there is another one, which may have done nothing yet."""
        before = wait_until(lambda: self.guard(process), 20, "a guard")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: self.guard(process) not in (None, before), 20, "the next guard")

    def serve(self):
        ready = os.path.join(self.directory, runtime.Runtime.new_id())
        server = Process([env.tool("ip"), "netns", "exec", self.far.far, self.relayed, "serve", ready,
                          PROXY], ready + ".log")
        self.addCleanup(server.stop)
        server.wait_for(lambda: os.path.exists(ready), 10, "the other side listens")
        return server

    def check(self, policy, kills, kill=None, prefix=()):
        server = self.serve()
        self.far.reset()
        process = self.start(policy, "sh", "-c",
                             f"trap : USR1 TERM; {self.relayed} run {steady.RELAYED} & child=$!; "
                             "trap 'kill -USR1 $child' USR1; trap 'kill -TERM $child' TERM; "
                             "while kill -0 $child 2>/dev/null; do wait $child; done; "
                             f"exit {STATUS}", prefix=prefix)
        process.wait_for(lambda: "running" in process.output(), 20, "it runs")
        fds = len(os.listdir(f"/proc/{process.pid}/fd"))
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        for _ in range(kills):
            (kill or self.kill)(process)
            time.sleep(self.chance.choice((0, self.chance.uniform(0, 0.02),
                                           self.chance.uniform(0, 0.4))))
        time.sleep(0.3)
        left = len(os.listdir(f"/proc/{process.pid}/fd"))
        process.send_signal(signal.SIGTERM)
        status = process.wait(40)
        server.stop()
        said = steady.numbers("".join(line for line in process.output().splitlines(True)
                                      if not line.startswith("oakum: ")))
        counted = steady.numbers(server.output())
        told = f"{said}\n{counted}\n{process.output()[-3000:]}"
        print(f"{self.id()}: {kills} kills: {said}", flush=True)
        self.assertEqual(status, STATUS, told)
        # One that was killed at once has not come to saying so.
        self.assertIn(process.output().count("the guard has died (signal 9)"), range(1, kills + 1))
        steady.check_all_relayed(self, said, counted, told)
        self.assertEqual(self.far.packets(steady.RELAYED), 0, told)
        self.assertNotIn("are reset", process.output())
        # Neither a descriptor, while it goes on, nor a process at its end.
        self.assertLess(left, fds + SPARE_FDS, told)
        wait_until(lambda: self.ours() == [], 30, "all of its processes have ended")

    def test_one_kill(self):
        self.check(self.plain(), 1)

    def test_two_kills(self):
        self.check(self.plain(), 2)

    def test_five_kills(self):
        self.check(self.plain(), 5)

    def test_one_kill_with_tls(self):
        self.check(self.tls(), 1)

    def test_five_kills_with_tls(self):
        self.check(self.tls(), 5)


class RunRestartsAsRoot(RunRestarts, case.Case):
    pass


class RunRestartsAsOrdinaryUser(RunRestarts, case.Case):
    PREFIX = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--inh-caps=-all", "--bounding-set=-all")


if __name__ == "__main__":
    case.main()
