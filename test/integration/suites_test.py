"""The socket tests of CPython and Go, some thousand that others wrote, give the same results in a
guarded container as in a bare one: in `enforce`, with every call decided and everything allowed.

`suites_test.py Suites.test_cpython` runs one of them; each is a test of ctest, suite.cpython."""
import os

from lib import case, env, proc, workload_case

# How often tests with another result are run again, on both sides: they measure times, too, and the
# machine is busy.
AGAIN = 2


class Suites(workload_case.WorkloadCase):
    def compare(self, suite, refused, *, least, **environment):
        """Runs the suite bare and guarded. refused(test): whether the test needs a socket that
        Oakum refuses by design. least: how many have to pass, lest none was run at all."""
        bare = self.run_workload("runc", suite, **environment)["outcome"]
        guarded = self.run_workload("runc", suite, policy="allowed", **environment)["outcome"]
        differ = {test for test in {*bare, *guarded}
                  if bare.get(test) != guarded.get(test) and not refused(test)}
        for _ in range(AGAIN):
            if not differ:
                break
            print(f"{suite}: once more:", *(f"{test}: bare {bare.get(test)}, guarded "
                                            f"{guarded.get(test)};" for test in sorted(differ)))
            only = {"OAKUM_ONLY": " ".join(sorted(differ))}
            bare = {**bare, **self.run_workload("runc", suite, **only, **environment)["outcome"]}
            guarded = {**guarded, **self.run_workload("runc", suite, policy="allowed", **only,
                                                      **environment)["outcome"]}
            differ = {test for test in differ if bare.get(test) != guarded.get(test)}
        self.assertEqual({test: (bare.get(test), guarded.get(test)) for test in differ}, {})
        same = [test for test in bare if not refused(test)]
        passed = [test for test in same if guarded[test] in ("ok", "PASS")]
        print(f"{suite}: {len(same)} the same, {len(passed)} of them passed, "
              f"{len(bare) - len(same)} need a socket that is refused")
        self.assertGreaterEqual(len(passed), least)

    def test_cpython(self):
        # UDP-Lite is refused, and so are sockets of the families CAN, QIPCRTR, VSOCK, TIPC and RDS,
        # which this kernel may or may not have.
        self.compare("cpython_suite",
                     lambda test: "UDPLITE" in test or any(
                         name in test for name in ("CAN", "ISOTP", "J1939", "QIPCRTR", "VSOCK",
                                                   "TIPC", "RDS", "LinuxKernelCryptoAPI",
                                                   "Bluetooth")), least=300)

    def test_go(self):
        sources = os.path.join(proc.run([env.tool("go"), "env", "GOROOT"]).stdout.strip(),
                               "src", "net")
        program = os.path.join(self.data, "go", "net.test")
        os.makedirs(os.path.dirname(program), exist_ok=True)
        proc.run([env.tool("go"), "test", "-c", "-o", program, "net"], timeout=240, cwd=sources,
                 environment=env.clean_environment(
                     GOTOOLCHAIN="local", GOPROXY="off", GOFLAGS="-mod=mod",
                     GOCACHE=os.path.join(env.TEST_BIN_DIR, "go-cache")))
        # Raw sockets.
        self.compare("go_suite", lambda test: test.startswith("TestIPConn"), least=100,
                     OAKUM_GO_NET=os.path.realpath(sources))


if __name__ == "__main__":
    case.main()
