"""The framework itself: without Oakum every probe gets through and is counted on the far side."""
import os

from lib import bundle, case, network, rootfs, runtime


class FrameworkTest(case.Case):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.far = network.FarSide(cls.directory)
        cls.addClassCleanup(cls.far.close)
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"))

    def probe(self, engine, *steps):
        path = os.path.join(self.directory, engine.new_id())
        config = bundle.make_config(self.rootfs, ["/bin/probe", *steps], netns=self.far.netns)
        return engine.run_probe(bundle.make_bundle(path, config), timeout=20)

    def test_every_way_out_is_open_and_counted(self):
        for name in runtime.Runtime.NAMES:
            with self.subTest(runtime=name):
                engine = runtime.Runtime(name, self.directory)
                self.addCleanup(engine.close)
                self.far.reset()
                self.assertEqual(self.far.packets(), 0)
                steps = self.probe(
                    engine,
                    f"tcp {self.far.BAD4} 80 hello", f"tcp {self.far.BAD6} 80 hello",
                    f"udp {self.far.BAD4} 53 hello", f"udp {self.far.BAD6} 53 hello",
                    f"tcp {self.far.GOOD4} 443 hello", f"udp {self.far.GOOD6} 53 hello",
                    "socket 0 inet dgram",
                    f"sendmmsg 0 0 hello {self.far.BAD4} 443 , {self.far.GOOD4} 53")
                for step in steps:
                    self.assertWorked(step)
                self.assertEqual([s.get("data") for s in steps[:6]], ["hello"] * 6)
                self.assertEqual(steps[7]["ret"], 2)
                self.assertGreaterEqual(self.far.packets(self.far.BAD4, "tcp", 80), 3)
                self.assertEqual(self.far.packets(self.far.BAD4, "udp", 53), 1)
                self.assertEqual(self.far.packets(self.far.BAD4, "udp", 443), 1)
                self.assertGreaterEqual(self.far.packets(self.far.BAD6, "tcp", 80), 3)
                self.assertEqual(self.far.packets(self.far.BAD6, "udp", 53), 1)

    def test_nothing_is_counted_when_nothing_is_sent(self):
        engine = runtime.Runtime("runc", self.directory)
        self.addCleanup(engine.close)
        self.far.reset()
        self.probe(engine, "socket 0 inet stream", "socket 1 inet6 dgram")
        self.assertEqual(self.far.packets(), 0)


if __name__ == "__main__":
    case.main()
