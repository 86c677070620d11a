"""scripts/quickstart does what the README says, and leaves nothing behind."""
import glob
import os
import time

from lib import case, env
from lib.proc import run


def left_behind():
    namespaces = run([env.tool("ip"), "netns", "list"]).stdout.split("\n")
    return sorted(line.split()[0] for line in namespaces if line.startswith(("oakum-in-",
                                                                             "oakum-out-"))) + \
        sorted(glob.glob("/tmp/oakum-quickstart.*"))


class QuickstartTest(case.Case):
    def test_a_leak_is_shown_stopped_and_reported(self):
        before = left_behind()
        started = time.monotonic()
        result = run([os.path.join(env.SOURCE_DIR, "scripts/quickstart")], timeout=280)
        # It has been built: the second time is quick.
        self.assertLess(time.monotonic() - started, 120)
        plain, _, guarded = result.stdout.partition("== 2.")
        self.assertEqual(plain.count("the world outside answers"), 2, result)
        self.assertEqual(guarded.count("the world outside answers"), 1, result)
        self.assertIn("Permission denied", guarded)
        _, _, report = guarded.partition("== 3.")
        self.assertIn("198.51.100.7", report)
        self.assertEqual(left_behind(), before)

    def test_it_takes_no_arguments(self):
        script = os.path.join(env.SOURCE_DIR, "scripts/quickstart")
        self.assertEqual(run([script, "--help"]).returncode, 0)
        self.assertNotEqual(run([script, "--nonsense"], check=False).returncode, 0)


if __name__ == "__main__":
    case.main()
