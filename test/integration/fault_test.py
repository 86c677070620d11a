"""The agent is killed, stopped, reloaded and left without room at moments of chance while containers
make calls: somebody outside counts what has come of them."""
import os
import random
import time

from lib import case, faults, network, steady

FAR = network.FarSide


POLICIES = (steady.relaying_policy(default="deny", allow=[FAR.GOOD4]),
            steady.relaying_policy(default="allow", deny=[FAR.BAD4]))
SECONDS = float(os.environ.get("OAKUM_RESTART_SECONDS", "15"))
SEED = int(os.environ.get("OAKUM_RESTART_SEED", "0")) or random.randrange(1, 1 << 32)


class FaultTest(steady.SteadyCase):
    def check(self, name, seconds, kills, only=()):
        chance = random.Random(f"{SEED} {name} {kills}")
        disk = faults.SmallDisk(os.path.join(self.directory, f"disk-{self.id()}"))
        self.addCleanup(disk.close)
        guard, engine = self.guard(name, POLICIES[0],
                                   events_path=os.path.join(disk.path, "events.jsonl"))
        faulty = faults.Faults(guard, chance, POLICIES, disk, kills, only)
        server, relay_server = self.serve(), self.serve_relayed()
        self.far.reset()
        end = self.steady(engine)
        end_relayed = self.relayed(guard, engine)
        guard.wait_events(1, timeout=20)  # the agent has its session
        print(f"seed {SEED}", flush=True)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0.02, 0.6))
            faulty.step()
        faulty.mend()
        time.sleep(0.2)
        said, said_relayed = end(), end_relayed()
        server.stop()
        relay_server.stop()
        counted = steady.numbers(server.output())
        counted_relayed = steady.numbers(relay_server.output())
        guard.stop()
        denied = faulty.denied + faults.read_events(guard.events_path)
        told = (f"seed {SEED}, {faulty.counts}\n{said}\n{counted}\nevents {denied}\n"
                f"{said_relayed}\n{counted_relayed}")
        print(told, flush=True)
        told += "\n" + guard.log()[-3000:]
        self.check_counts(said, counted, told)
        self.check_relayed(said_relayed, counted_relayed, told)
        return {**said, **said_relayed}, denied, told

    def test_no_call_is_lost_or_doubled_with_runc(self):
        self.check("runc", SECONDS, kills=True)

    def test_no_call_is_lost_or_doubled_with_crun(self):
        self.check("crun", SECONDS, kills=True)

    def test_an_agent_that_lives_loses_nothing_at_all(self):
        self.check_living(SECONDS)

    def test_what_there_is_no_descriptor_for_waits(self):
        self.check_living(SECONDS / 3, only=("starve",))

    def check_living(self, seconds, only=()):
        said, events, told = self.check("runc", seconds, kills=False, only=only)
        self.assertEqual(events, said["denied"][0], told)
        # Not even a connection that has just begun. None looks for its proxy from another network,
        # where nobody is, or somebody else.
        for name in ("short", "slow"):
            self.assertEqual(said[name][1:], [0, 0], f"{name}: {told}")


if __name__ == "__main__":
    case.main()
