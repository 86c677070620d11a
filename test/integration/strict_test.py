"""`syscalls` in a policy: what real runtimes, and oakum run, make of base, allow, deny and errno."""
import json
import os

from lib import bundle, case, env, rootfs, runtime
from lib.agent import Agent, write_json
from lib.proc import run

# Calls that the list leaves out, and what they give where they are made.
UNLISTED = ("clone_newuser", "keyctl", "mount", "pidfd_getfd", "process_vm_readv", "ptrace", "setns",
            "unshare", "unshare32", "userfaultfd")
LISTED = ("clone", "getpid32", "mkdirat")
MADE = {**dict.fromkeys([*UNLISTED, *LISTED], ""), "mount": "ENODEV"}
_GUARD = {"mode": "enforce", "outgoing": {"default": "deny"}}


def _policy(**syscalls):
    return {**_GUARD, "syscalls": syscalls}


POLICIES = {
    "keep": _GUARD,
    "strict": _policy(base="strict"),
    "named": _policy(base="strict", errno="EACCES"),
    "numbered": _policy(base="strict", errno=95),
    "narrowed": _policy(base="strict", deny=["mkdirat", "clone"]),
    "extended": _policy(base="strict", allow=["unshare", "clone", "clone3", "ptrace"]),
    "keep-deny": _policy(deny=["unshare", "mkdirat"], errno="ENOENT"),
    "audit": {"mode": "audit", "syscalls": {"base": "strict"}},
}


# What makes the unlisted calls possible in a container that is not confined otherwise.
_CAPABILITIES = ["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]


class Strict:
    """The cases of one runtime, which NAME names."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rootfs = rootfs.make_rootfs(os.path.join(cls.directory, "rootfs"), ["syscalls"])
        cls.agent = Agent(cls.directory, {
            "version": 1, "policies": POLICIES,
            "containers": [{"match": {"annotation": {"io.oakum.policy": "*"}},
                            "policy": "$io.oakum.policy"}]}, runtime=cls.NAME).start()
        cls.addClassCleanup(cls.agent.stop)
        cls.engine = runtime.Runtime(cls.NAME, cls.directory, config=cls.agent.config)
        cls.addClassCleanup(cls.engine.close)

    def make_bundle(self, args, policy, **options):
        options.setdefault("capabilities", _CAPABILITIES)
        config = bundle.make_config(self.rootfs, args, annotations={"io.oakum.policy": policy},
                                    **options)
        path = os.path.join(self.directory, f"bundle-{runtime.Runtime.new_id()}")
        return bundle.make_bundle(path, config)

    def calls(self, policy, names, guarded=True, **options):
        """errno of each call by its name, empty where it worked."""
        path = self.make_bundle(["/bin/syscalls", *names], policy, **options)
        steps = self.engine.run_probe(path, guarded=guarded)
        self.assertEqual([step["op"] for step in steps], list(names))
        return {step["op"]: step["errno"] for step in steps}

    @staticmethod
    def profile(name):
        with open(f"{env.SOURCE_DIR}/test/data/seccomp/{name}.json", encoding="utf-8") as file:
            return json.load(file)

    def test_what_works_without_it_is_refused(self):
        expected = {**dict.fromkeys(UNLISTED, "EPERM"), **dict.fromkeys(LISTED, "")}
        bare = self.calls("strict", [*UNLISTED, *LISTED], guarded=False)
        self.assertEqual(bare, MADE)
        self.assertEqual(self.calls("keep", [*UNLISTED, *LISTED]), MADE)
        self.assertEqual(self.calls("strict", [*UNLISTED, *LISTED]), expected)

    def test_clone3_and_what_is_newer_than_the_list_do_not_exist(self):
        names = ["clone3", "newer"]
        self.assertEqual(self.calls("keep", names)["clone3"], "")
        self.assertEqual(self.calls("named", names), dict.fromkeys(names, "ENOSYS"))

    def test_typing_into_the_terminal_is_refused(self):
        names = ["tiocsti", "tiocsti_high", "tcgets"]
        self.assertEqual(self.calls("keep", names), dict.fromkeys(names, "EBADF"))
        self.assertEqual(self.calls("strict", names),
                         {"tiocsti": "EPERM", "tiocsti_high": "EPERM", "tcgets": "EBADF"})

    def test_the_policy_names_the_errno(self):
        for policy, errno in (("named", "EACCES"), ("numbered", "EOPNOTSUPP")):
            self.assertEqual(self.calls(policy, [*UNLISTED, *LISTED]),
                             {**dict.fromkeys(UNLISTED, errno), **dict.fromkeys(LISTED, "")})

    def test_deny_narrows_and_allow_extends(self):
        names = ["mkdirat", "unshare", "unshare32", "ptrace", "setns", "clone_newuser", "clone3"]
        self.assertEqual(self.calls("narrowed", ["mkdirat", "clone", "getpid32"]),
                         {"mkdirat": "EPERM", "clone": "EPERM", "getpid32": ""})
        self.assertEqual(self.calls("extended", names),
                         {**dict.fromkeys(names, ""), "setns": "EPERM"})
        names_kept = ["unshare", "unshare32", "mkdirat", "ptrace", "setns"]
        self.assertEqual(self.calls("keep-deny", names_kept),
                         {"unshare": "ENOENT", "unshare32": "ENOENT", "mkdirat": "ENOENT",
                          "ptrace": "", "setns": ""})

    def test_what_the_engine_refuses_stays_refused_with_its_errno(self):
        """Docker's profile without CAP_SYS_ADMIN refuses unshare with EPERM, and allows ptrace."""
        names = ["unshare", "ptrace", "clone_newuser", "clone3", "mkdirat"]
        docker = {"unshare": "EPERM", "ptrace": "", "clone_newuser": "EPERM", "clone3": "ENOSYS",
                  "mkdirat": ""}
        profile = self.profile("docker-default")
        self.assertEqual(self.calls("keep", names, seccomp=profile), docker)
        self.assertEqual(self.calls("extended", names, seccomp=profile), docker)
        self.assertEqual(self.calls("named", names, seccomp=profile),
                         {**docker, "ptrace": "EACCES"})

    def test_podmans_profile_is_narrowed_as_well(self):
        names = ["unshare", "keyctl", "clone_newuser", "mkdirat"]
        profile = self.profile("podman-default")
        kept = self.calls("keep", names, seccomp=profile)
        self.assertEqual(set(kept.values()), {""}, kept)
        self.assertEqual(self.calls("named", names, seccomp=profile),
                         {**dict.fromkeys(names, "EACCES"), "mkdirat": ""})

    def test_audit_refuses_nothing(self):
        self.assertEqual(self.calls("audit", MADE), MADE)

    def test_exec_is_closed_as_well(self):
        path = self.make_bundle(["/bin/sleep", "300"], "strict")
        log = os.path.join(self.directory, "exec.log")
        container, process = self.engine.start(path, log)
        self.addCleanup(process.stop)
        self.addCleanup(self.engine.delete, container)
        steps = runtime.parse_probe(
            self.engine.exec(container, "/bin/syscalls", "unshare", "mkdirat").stdout)
        self.assertFailed(steps[0], "EPERM")
        self.assertWorked(steps[1])

    def test_containers_start_whoever_they_run_as(self):
        """Between loading the filter and the program a runtime makes calls of its own: more of them
        without noNewPrivileges, where the filter comes before the user is changed."""
        for uid in (0, 65534):
            for no_new_privileges in (True, False):
                for profile in (None, self.profile("docker-default")):
                    with self.subTest(uid=uid, profile=profile is not None,
                                      no_new_privileges=no_new_privileges):
                        calls = self.calls("strict", ["userfaultfd", "getpid32"], uid=uid,
                                           no_new_privileges=no_new_privileges, seccomp=profile,
                                           capabilities=["CAP_CHOWN", "CAP_SETUID"])
                        self.assertEqual(calls, {"userfaultfd": "EPERM", "getpid32": ""})

    def test_a_shell_works(self):
        script = ("mkdir -p /tmp/d && echo a > /tmp/d/f && cat /tmp/d/f | grep a && "
                  "(sleep 0 & wait) && ls /tmp/d && rm -r /tmp/d && id")
        result = self.engine.run(self.make_bundle(["/bin/sh", "-c", script], "strict"))
        self.assertEqual(result.stdout.splitlines()[:2], ["a", "f"])
        self.assertIn("uid=0", result.stdout)


class Runc(Strict, case.Case):
    NAME = "runc"


class Crun(Strict, case.Case):
    NAME = "crun"


class OakumRun(case.Case):
    def test_one_program(self):
        policies = write_json(os.path.join(self.directory, "policy.json"),
                              {"version": 1, "policies": POLICIES})
        program = env.test_program("syscalls")
        names = [*UNLISTED, *LISTED, "clone3"]

        def calls(policy):
            result = run([env.program("oakum"), "run", "--policy", policies, "--name",
                          policy, "--", program, *names])
            return {step["op"]: step["errno"] for step in runtime.parse_probe(result.stdout)}

        kept = calls("keep")
        for made in ("mount", "process_vm_readv", "ptrace", "unshare", "clone3"):
            self.assertEqual(kept[made], MADE.get(made, ""))
        self.assertEqual(calls("named"), {**dict.fromkeys(UNLISTED, "EACCES"),
                                          **dict.fromkeys(LISTED, ""), "clone3": "ENOSYS"})


if __name__ == "__main__":
    case.main()
