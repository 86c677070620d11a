"""Go: go/main.go, which the test has linked statically to /data/go/program."""
import common


def main():
    common.work_directory()
    with common.Timer() as timer:
        lines = common.run("/data/go/program", timeout=140, GOGC="1").splitlines()
    common.report({"lines": lines}, work_s=timer.seconds)


if __name__ == "__main__":
    main()
