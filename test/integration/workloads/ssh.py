"""openssh: sshd with its unprivileged child, ssh with a key, a terminal, scp, sftp and a forwarded
port; a key that is not known is refused."""
import os

import common
from common import Server, Timer, pattern, run, sha256, status, write

CONFIG = """
Port 2222
ListenAddress 127.0.0.1
ListenAddress ::1
HostKey /tmp/work/host_key
AuthorizedKeysFile /tmp/work/authorized_keys
PidFile /tmp/work/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PrintMotd no
Subsystem sftp /usr/lib/openssh/sftp-server
"""


def main():
    common.work_directory()
    os.makedirs("/run/sshd", mode=0o755)
    for name in ("host_key", "user_key", "other_key"):
        run("/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name)
    write("authorized_keys", run("/usr/bin/cat", "user_key.pub"))
    config = write("sshd_config", CONFIG)
    write("payload", pattern(2000000))
    options = ["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o",
               "UserKnownHostsFile=/tmp/work/known_hosts", "-o", "ConnectTimeout=20"]
    key = ["-i", "/tmp/work/user_key", "-o", "IdentitiesOnly=yes"]
    ssh = ["/usr/bin/ssh", *options, *key, "-p", "2222"]
    outcome = {}
    with Timer() as timer, \
            Server("/usr/sbin/sshd", "-D", "-e", "-f", config, listens_at=("127.0.0.1", 2222)), \
            Server("/usr/bin/python3", "/workloads/http_server.py", "127.0.0.1", "8080",
                   listens_at=("127.0.0.1", 8080)):
        outcome["command"] = run(*ssh, "root@localhost", "id -un; echo $SSH_CONNECTION | wc -w")
        outcome["ipv6"] = run(*ssh, "root@::1", "echo ipv6")
        outcome["terminal"] = run(*ssh, "-tt", "root@127.0.0.1", "tty | cut -c1-9").strip()
        outcome["stdin"] = len(run(*ssh, "root@localhost", "cat", stdin="x" * 500000))
        run("/usr/bin/scp", *options, *key, "-P", "2222", "payload", "root@localhost:copied")
        outcome["scp"] = [sha256("payload"), sha256("/tmp/copied")]
        run("/usr/bin/scp", "-O", *options, *key, "-P", "2222", "root@localhost:copied", "back")
        outcome["scp back, old protocol"] = sha256("back")
        outcome["unknown key"] = status("/usr/bin/ssh", *options, "-i", "/tmp/work/other_key", "-o",
                                        "IdentitiesOnly=yes", "-p", "2222", "root@localhost", "true")
        with Server(*ssh, "-N", "-L", "127.0.0.1:8081:localhost:8080", "root@localhost",
                    listens_at=("127.0.0.1", 8081)):
            run("/usr/bin/curl", "-sS", "--fail", "-o", "got", "http://127.0.0.1:8081/bytes/1000000")
            outcome["forwarded"] = sha256("got")
    common.report(outcome, work_s=timer.seconds)


if __name__ == "__main__":
    main()
