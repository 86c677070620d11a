"""The agent ends and another one goes on with what was kept: what each of them has in hand meanwhile.
fault_test.py does it under load."""
import os
import signal
import subprocess
import time

from lib import agent, bundle, case, env, network, proc, runtime, steady, systemd

FAR = network.FarSide
POLICY = agent.single_policy(
    {"mode": "enforce", "outgoing": {"default": "deny", "allow": [FAR.GOOD4]}})


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
        proc.wait_until(lambda: not os.path.exists(guard.socket + ".keeper"), 30, "the keeper's end")

    def test_a_keeper_ends_with_the_last_container(self):
        guard, engine = self.start("runc")
        container, ask = self.probing(engine)
        self.assertGuarded(ask()())
        guard.kill()
        self.assertTrue(os.path.exists(guard.socket + ".keeper"))
        engine.delete(container)
        proc.wait_until(lambda: not os.path.exists(guard.socket + ".keeper"), 30, "the keeper's end")

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
        proc.wait_until(lambda: not os.path.exists(guard.socket + ".keeper"), 30, "the keeper's end")

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
        journals = proc.wait_until(lambda: self.journals(keeper), 30, "the keeper has the session")
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
        with systemd.Systemd(self.directory) as manager:
            guard, engine = self.start("runc", prefix=manager.prefix())
            _, ask = self.probing(engine)
            self.assertGuarded(ask()())
            self.assertFalse(os.path.exists(guard.socket + ".keeper"))
            for number in (signal.SIGKILL, signal.SIGTERM):
                guard.stop(number)
                answer = ask()
                time.sleep(0.3)
                self.assertFalse(answer.there())
                manager.hear()
                guard.use_prefix(manager.prefix())
                guard.start()
                self.assertGuarded(answer())
            engine.close()
            proc.wait_until(lambda: manager.hear() == {}, 30, "nothing is kept any more")

    def test_a_systemd_that_is_busy_is_told_later(self):
        queue, count = 8, 16
        with systemd.Systemd(self.directory, queue) as manager:
            guard, _ = self.guard("runc", agent.single_policy({"mode": "enforce", "outgoing": {
                "default": "deny", "allow": ["127.0.0.0/8"]}}), prefix=manager.prefix())
            containers = subprocess.Popen([env.test_program("sessions"), guard.socket, str(count), "0"],
                                          text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.addCleanup(containers.wait)
            self.addCleanup(containers.stdout.close)
            self.addCleanup(containers.kill)
            self.assertEqual(containers.stdout.readline(), f"{count} ok\n", guard.log()[-3000:])
            self.assertIn("hand over to systemd", guard.log())
            proc.wait_until(lambda: len(manager.hear()) == count, 20, "all are kept")
            guard.kill()
            manager.hear()
            guard.use_prefix(manager.prefix())
            guard.start()
            self.assertIn(f"{count} sessions of an agent before this one go on", guard.log())
            containers.stdin.close()  # all end at a time
            containers.wait()
            time.sleep(0.2)
            proc.wait_until(lambda: manager.hear() == {}, 20, "nothing is kept any more")


if __name__ == "__main__":
    case.main()
