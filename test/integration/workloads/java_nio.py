"""Java: java/Nio.java, which the test has compiled to /data/java."""
import common


def main():
    common.work_directory()
    with common.Timer() as timer:
        lines = common.run("/data/jvm/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                           "-Xmx256m", "-cp", "/data/java", "Nio", timeout=100).splitlines()
    common.report({"lines": lines}, work_s=timer.seconds)


if __name__ == "__main__":
    main()
