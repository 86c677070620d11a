"""CPython's own tests of its socket module (test.test_socket): some seven hundred, of every way to
send, receive, wait, time out and be interrupted. OAKUM_ONLY: the identifiers of those to run."""
import os
import unittest

import common


class Outcomes(unittest.TestResult):
    """What became of each test, by its identifier."""

    def __init__(self):
        super().__init__()
        self.outcomes = {}

    def startTest(self, test):  # noqa: the name is unittest's
        super().startTest(test)
        self.outcomes.setdefault(test.id(), "ok")

    def addError(self, test, err):  # noqa
        super().addError(test, err)
        self.outcomes[test.id()] = f"{err[0].__name__}: {err[1]}"

    addFailure = addError

    def addSkip(self, test, reason):  # noqa
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main():
    common.work_directory()
    from test import support
    support.verbose = 0
    names = os.environ.get("OAKUM_ONLY", "").split() or ["test.test_socket"]
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    outcomes = Outcomes()
    unittest.TestSuite(tests_of(suite)).run(outcomes)
    common.report(outcomes.outcomes)


if __name__ == "__main__":
    main()
