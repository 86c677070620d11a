"""The agent ends and another one goes on with what was kept: what each of them has in hand meanwhile.
fault_test.py does it under load."""
import os
import signal
import socket
import sys
import time

from lib import agent, bundle, case, env, network, proc, runtime, steady

FAR = network.FarSide
POLICY = agent.single_policy(
    {"mode": "enforce", "outgoing": {"default": "deny", "allow": [FAR.GOOD4]}})

# PID NOTIFY_SOCKET NAMES FD... -- COMMAND: runs a service with descriptors of process PID.
PASS_FDS = """
import ctypes, fcntl, os, sys
pidfd, end = os.pidfd_open(int(sys.argv[1])), sys.argv.index("--")
PIDFD_GETFD = 438
got = [ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(fd), 0) for fd in sys.argv[4:end]]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in got]
os.closerange(3, 100)
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.closerange(100, 200)
os.environ.update(NOTIFY_SOCKET=sys.argv[2], INVOCATION_ID="1")
if high:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)),
                      LISTEN_FDNAMES=sys.argv[3])
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""


class Systemd:
    """What sd_pid_notify_with_fds(3) and sd_listen_fds(3) say of a service manager's store."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "systemd")
        self.kept = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        for fd in sum(self.kept.values(), []):
            os.close(fd)

    def hear(self):
        """Does what it is told; returns descriptors by name."""
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._socket, 4096, 16)
            except BlockingIOError:
                return self.kept
            lines = message.decode().splitlines()
            name = next((line[7:] for line in lines if line.startswith("FDNAME=")), "stored")
            if "FDSTORE=1" in lines:
                self.kept.setdefault(name, []).extend(fds)
            elif "FDSTOREREMOVE=1" in lines:
                for fd in self.kept.pop(name, []):
                    os.close(fd)

    def prefix(self):
        """A command that runs another one as a service with what is kept. Made anew for each."""
        kept = self.hear()
        names, fds = [], []
        for name, of_name in kept.items():
            names += [name] * len(of_name)
            fds += reversed(of_name)  # in no certain order
        return [sys.executable, "-c", PASS_FDS, str(os.getpid()), self.path, ":".join(names),
                *map(str, fds), "--"]


class Restarts(steady.SteadyCase):
    def start(self, name, **options):
        return self.guard(name, POLICY, **options)

    def probing(self, engine):
        """A container that connects upon each request; returns a function that requests."""
        shared = os.path.join(self.directory, runtime.Runtime.new_id())
        os.makedirs(shared)
        config = bundle.make_config(
            self.rootfs, ["/bin/sh", "-c", "i=0; while :; do i=$((i+1)); "
                          "while [ ! -e /shared/go$i ]; do sleep 0.01; done; "
                          f"/bin/probe 'tcp {FAR.GOOD4} 80 hello' 'tcp {FAR.BAD4} 80 hello' "
                          "> /shared/out; mv /shared/out /shared/out$i; done"],
            netns=self.far.netns)
        config["mounts"].append({"destination": "/shared", "type": "bind", "source": shared,
                                 "options": ["rbind", "rw"]})
        container, process = engine.start(bundle.make_bundle(shared + ".bundle", config),
                                          shared + ".log")
        self.addCleanup(process.stop)
        count = 0

        def ask():
            nonlocal count
            count += 1
            out = os.path.join(shared, f"out{count}")
            with open(os.path.join(shared, f"go{count}"), "w", encoding="ascii"):
                pass

            def answer(timeout=10):
                proc.wait_until(lambda: os.path.exists(out), timeout, "the answer")
                with open(out, encoding="utf-8") as text:
                    return runtime.parse_probe(text.read())

            answer.there = lambda: os.path.exists(out)
            return answer

        return container, ask

    @staticmethod
    def journals(pid):
        """Files of a process's descriptors that are journals of sessions."""
        found = []
        for name in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{name}"
            try:
                found += [path] if "oakum-session" in os.readlink(path) else []
            except FileNotFoundError:  # closed meanwhile
                pass
        return found

    def assertGuarded(self, steps):
        self.assertWorked(steps[0])
        self.assertFailed(steps[1], "EACCES")

    def test_calls_wait_while_there_is_no_agent(self):
        guard, engine = self.start("runc")
        container, ask = self.probing(engine)
        self.assertGuarded(ask()())
        keeper = guard.keeper_pid()
        guard.kill()
        self.far.reset()
        answer = ask()
        time.sleep(0.5)
        self.assertFalse(answer.there())
        self.assertEqual(self.far.packets(), 0)
        guard.start()
        self.assertGuarded(answer())
        self.assertEqual(guard.keeper_pid(), keeper)
        # What a later session brings is kept as well, and each is gone with its container.
        proc.run(engine.command("exec", container, "/bin/true"))
        guard.stop()
        guard.start()
        self.assertGuarded(ask()())
        engine.delete(container)
        guard.stop()
        proc.wait_until(lambda: not os.path.exists(guard.socket + ".keeper"), 5, "the keeper's end")

    def test_a_keeper_ends_with_the_last_container(self):
        guard, engine = self.start("runc")
        container, ask = self.probing(engine)
        self.assertGuarded(ask()())
        guard.kill()
        self.assertTrue(os.path.exists(guard.socket + ".keeper"))
        engine.delete(container)
        proc.wait_until(lambda: not os.path.exists(guard.socket + ".keeper"), 5, "the keeper's end")

    def test_a_keeper_that_is_gone_is_replaced(self):
        guard, engine = self.start("runc")
        container, ask = self.probing(engine)
        self.assertGuarded(ask()())
        for _ in range(2):
            keeper = guard.keeper_pid()
            os.kill(keeper, signal.SIGKILL)
            guard.process.wait_for(lambda: self.count_kept(guard) == 1, 20, "another keeper")
            self.assertNotEqual(guard.keeper_pid(), keeper)
            self.assertGuarded(ask()())
            # A session that comes later is kept by it too.
            proc.run(engine.command("exec", container, "/bin/true"))
            guard.kill()
            answer = ask()
            time.sleep(0.3)
            self.assertFalse(answer.there())
            os.truncate(guard.log_path, 0)
            guard.start()
            self.assertGuarded(answer())
        engine.delete(container)
        guard.stop()
        proc.wait_until(lambda: not os.path.exists(guard.socket + ".keeper"), 5, "the keeper's end")

    @staticmethod
    def count_kept(guard):
        return guard.log().count("is kept again")

    def test_without_agent_and_keeper_calls_fail(self):
        guard, engine = self.start("runc")
        _, ask = self.probing(engine)
        self.assertGuarded(ask()())
        guard.process.send_signal(signal.SIGSTOP)  # it does nothing about its keeper
        os.kill(guard.keeper_pid(), signal.SIGKILL)
        guard.kill()
        self.far.reset()
        for step in ask()()[:2]:
            self.assertFailed(step, "ENOSYS")
        self.assertEqual(self.far.packets(), 0)

    def test_another_version_is_refused_and_takes_nothing(self):
        guard, engine = self.start("runc")
        _, ask = self.probing(engine)
        self.assertGuarded(ask()())
        keeper = guard.keeper_pid()
        guard.kill()
        answer = ask()
        # The probe above was its own connection: what the agent had said may still be in the queue.
        journals = proc.wait_until(lambda: self.journals(keeper), 5, "the keeper has the session")
        self.assertEqual(len(journals), 1)
        for version, status in ((2, 3), (1, None)):
            with open(journals[0], "r+b", buffering=0) as journal:
                journal.seek(8)
                journal.write(version.to_bytes(4, "little"))
            if status is not None:
                refused = proc.run([env.program("oakum-agent"), "--config", guard.config,
                                    "--events", guard.events_path], check=False)
                self.assertEqual(refused.returncode, status, refused)
                self.assertIn("version 2", refused.stderr)
                self.assertFalse(answer.there())
        guard.start()
        self.assertGuarded(answer())

    def test_the_store_of_systemd_keeps_sessions(self):
        with Systemd(self.directory) as systemd:
            guard, engine = self.start("runc", prefix=systemd.prefix())
            _, ask = self.probing(engine)
            self.assertGuarded(ask()())
            self.assertFalse(os.path.exists(guard.socket + ".keeper"))
            for number in (signal.SIGKILL, signal.SIGTERM):
                guard.stop(number)
                answer = ask()
                time.sleep(0.3)
                self.assertFalse(answer.there())
                systemd.hear()
                guard.use_prefix(systemd.prefix())
                guard.start()
                self.assertGuarded(answer())
            engine.close()
            proc.wait_until(lambda: systemd.hear() == {}, 5, "nothing is kept any more")


if __name__ == "__main__":
    case.main()
