"""The Go standard library's own tests of package net, which the test has compiled to
/data/go/net.test. OAKUM_ONLY: the names of those to run."""
import os
import re
import subprocess

import common

_RESULT = re.compile(r"--- (PASS|FAIL|SKIP): (\S+) \(")


def main():
    only = "|".join(os.environ.get("OAKUM_ONLY", "").split())
    done = subprocess.run(
        ["/data/go/net.test", "-test.v", "-test.short", "-test.timeout=120s",
         *([f"-test.run=^({only})$"] if only else [])],
        cwd=os.environ["OAKUM_GO_NET"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=140, check=False)
    common.report({name: result for result, name in _RESULT.findall(done.stdout)
                   if "/" not in name})


if __name__ == "__main__":
    main()
