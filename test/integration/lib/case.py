"""The test runner: says what was skipped and why; exit 77 when nothing could run."""
import os
import shutil
import sys
import tempfile
import unittest

from . import env


class Case(unittest.TestCase):
    """A test class with a directory of its own. Fixtures that cost time belong in setUpClass, each
    followed by addClassCleanup."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        env.require_root()
        cls.directory = tempfile.mkdtemp(prefix="oakum-it-")
        os.chmod(cls.directory, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)

    def assertFailed(self, step, errno_name):
        """One line of the probe: the call failed with this errno."""
        self.assertEqual(step["errno"], errno_name, step)
        self.assertLess(step["ret"], 0, step)

    def assertWorked(self, step):
        self.assertEqual(step["errno"], "", step)


def main():
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    result = program.result
    for case, reason in result.skipped:
        print(f"SKIPPED {case}: {reason}")
    bad = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    # A class that is skipped as a whole counts as one skip and no run.
    ran = result.testsRun - sum(1 for case, _ in result.skipped if hasattr(case, "_testMethodName"))
    print(f"{ran - bad if ran > bad else 0} passed, {bad} failed, {len(result.skipped)} skipped")
    sys.stdout.flush()
    if bad:
        sys.exit(1)
    sys.exit(77 if ran <= 0 and result.skipped else 0)
