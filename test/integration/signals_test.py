"""Signals and calls that the agent answers: on runc, which takes no flag, and on crun with
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV and without it.

OAKUM_SIGNAL_CALLS: how many connections and datagrams a Go program makes under SIGURG (5,000)."""
import json
import os
import subprocess
import time

from lib import agent, bundle, case, env, network, proc, rootfs, runtime

FLAG = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
GOOD = network.FarSide.GOOD4
SILENT = 81  # a port of which nobody says anything
POLICY = {"mode": "enforce",
          "outgoing": {"default": "deny", "allow": [GOOD]},
          "incoming": {"default": "deny", "allow": ["* from 127.0.0.0/8"]}}
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs/signals/main.go")


class Signals(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        network.FarSide.in_netns(cls.far.far, env.tool("nft"), "-f", "-", stdin=f"""
            table inet oakum_silent {{
              chain c {{
                type filter hook input priority 0;
                tcp dport {SILENT} drop;
              }}
            }}
            """)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))
        cls.go = os.path.join(cls.rootfs, "bin/signals")
        proc.run([env.tool("go"), "build", "-o", cls.go, SOURCE], timeout=240,
                 environment=env.clean_environment(
                     CGO_ENABLED="0", GO111MODULE="off", GOTOOLCHAIN="local", GOPROXY="off",
                     GOCACHE=os.path.join(env.TEST_BIN_DIR, "go-cache")))

    def start(self, name, switch="auto"):
        guard = agent.Agent(self.directory, agent.single_policy(POLICY), runtime=name)
        with open(guard.config, encoding="utf-8") as config:
            settings = json.load(config)
        agent.write_json(guard.config, {**settings, "wait_killable": switch})
        guard.start()
        self.addCleanup(guard.stop)
        engine = runtime.Runtime(name, self.directory, config=guard.config)
        self.addCleanup(engine.close)
        return guard, engine

    def bundle(self, *args):
        config = bundle.make_config(self.rootfs, args, netns=self.far.netns)
        return bundle.make_bundle(os.path.join(self.directory, runtime.Runtime.new_id()), config)

    @staticmethod
    def flags(path):
        with open(os.path.join(path, "config.json"), encoding="utf-8") as config:
            return json.load(config)["linux"]["seccomp"].get("flags", [])

    def test_the_flag_is_used_where_runtime_and_kernel_take_it(self):
        kernel = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 18)
        for name, switch, expected in (("runc", "auto", False), ("crun", "auto", kernel),
                                       ("crun", "off", False), ("crun", "on", True)):
            with self.subTest(name=name, switch=switch):
                guard, engine = self.start(name, switch)
                path = self.bundle("/bin/probe", f"tcp {GOOD} 80 hello")
                for _ in range(2):
                    self.assertWorked(engine.run_probe(path)[0])
                    self.assertEqual(FLAG in self.flags(path), expected)
                cache = os.path.join(guard.directory, "runtime-flags")
                if switch == "auto" and kernel:
                    with open(cache, encoding="utf-8") as lines:
                        self.assertTrue(lines.read().endswith(" yes\n" if name == "crun" else " no\n"))
                    self.assertEqual(os.stat(cache).st_mode & 0o777, 0o600)

    def test_where_the_runtime_refuses_it_on_starts_nothing(self):
        _, engine = self.start("runc", "on")
        refused = engine.run(self.bundle("/bin/probe", f"tcp {GOOD} 80"), check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("seccomp flags are not yet supported", refused.stderr)

    # A Go program under signals ---------------------------------------------------------------

    def check_go(self, name, switch):
        calls = int(os.environ.get("OAKUM_SIGNAL_CALLS", "5000"))
        _, engine = self.start(name, switch)
        with subprocess.Popen([env.tool("ip"), "netns", "exec", self.far.far, self.go, "server"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            try:
                self.assertEqual(server.stdout.readline(), "ready\n")
                start = time.monotonic()
                done = engine.run(self.bundle("/bin/signals", "client", GOOD, str(calls)),
                                  timeout=120 + calls / 100)
                took = time.monotonic() - start
                said, _ = server.communicate("\n", timeout=60)
            finally:
                server.kill()
        made, came = json.loads(done.stdout), json.loads(said)
        print(f"{name} {switch}: {took:.1f} s, {made}, {came}", flush=True)
        self.assertEqual(made["errors"], {})
        self.assertGreater(made["signals"], calls // 10)
        self.assertEqual((made["connections"], made["datagrams"]), (calls, calls))
        self.assertEqual((came["accepted"], came["connections"], came["connections_more"]),
                         (calls, calls, 0))
        self.assertEqual(came["datagrams"] + came["datagrams_more"], calls)
        return came["datagrams_more"], calls

    def test_go_on_runc(self):
        doubled, calls = self.check_go("runc", "auto")
        self.assertLessEqual(doubled, max(2, calls // 1000))

    def test_go_on_crun_with_the_flag(self):
        doubled, _ = self.check_go("crun", "on")
        self.assertEqual(doubled, 0)

    def test_go_on_crun_without_the_flag(self):
        doubled, calls = self.check_go("crun", "off")
        self.assertLessEqual(doubled, max(2, calls // 1000))

    # A call that waits ------------------------------------------------------------------------

    def test_handlers_interrupt_as_on_the_bare_runtime(self):
        steps = ("socket 0 inet stream", f"alarm 300", f"connect 0 {GOOD} {SILENT}",
                 "socket 1 inet stream", "bind 1 127.0.0.1 7000", "listen 1 1", "alarm 300",
                 "accept 1 2", "timeout 1 rcv 20000", "alarm 300 restart", "accept 1 2",
                 "socket 3 inet stream", "timeout 3 snd 20000", "alarm 300 restart",
                 f"connect 3 {GOOD} {SILENT}")
        for name, switch in (("runc", "auto"), ("crun", "on"), ("crun", "off")):
            with self.subTest(name=name, switch=switch):
                _, engine = self.start(name, switch)
                path = self.bundle("/bin/probe", *steps)
                bare = engine.run_probe(path, guarded=False)
                guarded = engine.run_probe(path)
                self.assertEqual([(s["op"], s["errno"]) for s in bare],
                                 [(s["op"], s["errno"]) for s in guarded])
                self.assertEqual([s["errno"] for s in guarded if s["op"] in ("connect", "accept")],
                                 ["EINTR"] * 4)

    def freezer(self, pid):
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as lines:
            groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in lines)
        if "freezer" in groups:
            path, frozen = f"/sys/fs/cgroup/freezer{groups['freezer']}/freezer.state", "FROZEN"
        else:
            path, frozen = f"/sys/fs/cgroup{groups['']}/cgroup.events", "frozen 1"

        def is_frozen():
            with open(path, encoding="ascii") as state:
                return frozen in state.read()
        return is_frozen

    def check_pause(self, name, switch):
        _, engine = self.start(name, switch)
        container, process = engine.start(
            self.bundle("/bin/probe", "socket 0 inet stream", f"connect 0 {GOOD} {SILENT}"),
            os.path.join(self.directory, f"{name}-{switch}.log"))
        pid = engine.state(container)["pid"]

        def waits():
            with open(f"/proc/{pid}/syscall", encoding="ascii") as call:
                return call.read().startswith("42 ")
        proc.wait_until(waits, 20, "the connect waits")
        time.sleep(0.2)
        is_frozen = self.freezer(pid)
        for _ in range(2):
            proc.run(engine.command("pause", container, guarded=False), timeout=30)
            proc.wait_until(is_frozen, 20, "the container is frozen")
            self.assertEqual(engine.state(container)["status"], "paused")
            proc.run(engine.command("resume", container, guarded=False), timeout=30)
            proc.wait_until(lambda: not is_frozen(), 20, "the container goes on")
            proc.wait_until(waits, 20, "the connect waits")
        proc.run(engine.command("kill", container, "KILL", guarded=False))
        self.assertNotEqual(process.wait(20), 0)

    def test_pause_reaches_a_connect_on_runc(self):
        self.check_pause("runc", "auto")

    def test_pause_reaches_a_connect_on_crun_with_the_flag(self):
        self.check_pause("crun", "on")

    def test_pause_reaches_a_connect_on_crun_without_the_flag(self):
        self.check_pause("crun", "off")

    # oakum run --------------------------------------------------------------------------------

    def test_oakum_run_has_the_switch(self):
        for switch in ("auto", "on", "off"):
            with self.subTest(switch=switch):
                done = proc.run([env.program("oakum"), "run", "--wait-killable", switch, "--mode",
                                 "enforce", "--allow", "127.0.0.0/8", "--",
                                 env.test_program("probe"), "socket 0 inet stream",
                                 "bind 0 127.0.0.1 0", "listen 0 1", "alarm 200", "accept 0 1"],
                                check=False)
                self.assertEqual(runtime.parse_probe(done.stdout)[-1]["errno"], "EINTR", done)
        refused = proc.run([env.program("oakum"), "run", "--wait-killable", "maybe", "--", "true"],
                           check=False)
        self.assertEqual(refused.returncode, 2, refused)


if __name__ == "__main__":
    case.main()
