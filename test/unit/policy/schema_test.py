"""The published JSON Schema and the parser judge the same files alike.

Every sample is given to both. What a schema cannot say (references, number ranges inside a rule) is
listed in MEANING: only there may the parser be stricter.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is not installed")
    sys.exit(77)

OAKUM = os.path.join(os.environ["OAKUM_BIN_DIR"], "oakum")

# Parts of messages about what the words mean, beyond their form.
MEANING = (
    "not built yet",
    'needs a "proxy" in the same policy',
    "goes through no proxy",
    "is a rule for a name",
    "incoming rules are for addresses",
    "makes user and password up",
    "says how isolating credentials look",
    "is about TLS",
    "is a whole number of seconds",
    "says how",
    "are whose answers",
    "is not the address of a name server",
    "is an extension of SOCKS5",
    "is about the password",
    "is a format of socks5",
    '"handshake" cannot look',
    '"handshake" looks at',
    "speaks something else",
    "redirects the policy's own proxy",
    "without its \"handshake\"",
    "there is no policy",
    "there is no proxy",
    "stands already at",
    "takes the policy from an annotation",
    'needs a "proxy" in the same policy',
    "there is no system call",
    "is no errno",
    'stands in "allow" as well',
    "cannot be allowed: a ring",
    "the libseccomp of this machine does not know",
    "is not a regular expression",
    "as a destination this address is loopback",
    "cannot be enforced for udp",
    "forbids the policy's own proxy",
    'no value of "engine"',
    "is not a prefix length",
    "has bits set beyond its prefix",
    "is neither a port",
    "runs backwards",
    "is not an IPv6 address",
    "is neither an address",
    "is not a port",
    "is no address to connect to",
    "stands before two hexadecimal digits",
    "user and password have at most",
)

FULL = {
    "version": 1,
    "proxies": {
        "tor": {"url": "socks5h://10.88.0.1:9050", "isolate": "container", "credentials": "tor",
                "from": "auto", "timeout": 60},
        "both": {"url": ["http://me:secret@[fd00::1]:3128", "socks5+unix:///run/proxy.sock"],
                 "isolate": "none"},
        "tls": {"url": ["https://proxy.example:3128", "socks5h+tls://10.0.0.1:1"], "from": "host",
                "ca": "/etc/ca.pem", "server_name": "proxy"},
    },
    "policies": {
        "tor-only": {
            "mode": "enforce",
            "proxy": "tor",
            "outgoing": {
                "default": "deny",
                "allow": ["127.0.0.0/8", "[::1]", "10.1.0.0/16:443/tcp", "*.example.com:443"],
                "deny": ["10.1.2.3", "*:25,587,8000-8999"],
                "redirect": ["0.0.0.0/0:80,443/tcp", "*.onion via tor", "[fd00::/8]:1/udp via tls"],
            },
            "incoming": {
                "default": "deny",
                "allow": ["0.0.0.0:8080/tcp from 10.0.0.0/8", "*:1 from *"],
                "deny": ["[fd00::/8]:22 from [fe80::/10]"],
            },
            "dns": "proxy",
            "resolve": "tcp://[fd00::53]:53",
            "unix": {"default": "allow", "allow": ["/run/a/**"], "deny": ["/run/docker.sock", "@*"]},
            "handshake": {"require": "socks5", "auth": "any", "isolation": "^[a-z]+$"},
            "on_leak": ["stack", "core"],
            "syscalls": {"base": "strict", "allow": ["ptrace"], "deny": ["mount"], "errno": "EACCES"},
            "log": "all",
        },
        "audit-all": {"mode": "audit"},
        "stop": {"mode": "kill", "proxy": "tls", "outgoing": {"default": "redirect"}, "dns": "deny"},
        "watched": {"mode": "enforce", "dns": "allow", "resolvers": ["10.0.0.53", "[fd00::53]"]},
    },
    "containers": [
        {
            "match": {
                "annotation": {"io.oakum.policy": "*"},
                "label": {"app": "web*"},
                "namespace": "dev-*",
                "name": "a",
                "image": "docker.io/library/nginx*",
                "pod": "p-?",
                "engine": "podman",
                "id": "0*",
            },
            "policy": "$io.oakum.policy",
        },
        {"match": {}, "policy": "audit-all"},
    ],
}

VALUES = (None, True, 0, 1, 2, 1.5, -1, "", "x", "allow", [], ["x"], [1], {}, {"x": 1})

GOOD_RULES = ("*", "1.2.3.4", "1.2.3.4/32:1", "0.0.0.0/0", "[::/0]:1-65535/udp", "[::ffff:1.2.3.4]",
              "a.b", "*.a-b.c:1,2-3,4/tcp", "_x.y")
BAD_RULES = ("", " ", "1.2.3", "::1", "[::1", "1.2.3.4:", "1.2.3.4:http", "1.2.3.4:1-", "1.2.3.4/tpc",
             "1.2.3.4:1/tcp/udp", "1.2.3.4 :1", "*x", "*.", "1.2.3.4/", "[fd00::]/8", "a b",
             "1.2.3.4:1,,2", "1.2.3.4:,1", "1.2.3.4:1/TCP", "é.com", "1.2.3.4 from 1.2.3.4:1",
             "1.2.3.4 from ", "from 1.2.3.4", "https://a.b")
GOOD_UNIX = ("/", "/a", "/a.b/c", "/..a", "/a../b", "@", "@a//b", "/**", "/*/x?")
BAD_UNIX = ("", "a", "./a", "//a", "/a/", "/a//b", "/a/./b", "/a/../b", "/a/..", "/a/.", "/.", "/..")
GOOD_VIA = ("* via a", "1.2.3.4:80/tcp via tor", "*.onion via a.b-c_d", "[::1] via x")
BAD_VIA = ("* via ", "* via a b", " via a", "* via", "*  via a")
BAD_URLS = ("", "10.0.0.1:1", "ftp://1.2.3.4:1", "socks5://1.2.3.4", "socks5://:1", "socks5:1.2.3.4:1",
            "socks5+unix://x", "http+tls://1.2.3.4:1", "https+unix:///run/x", "socks5+ssl://1.2.3.4:1",
            "socks5://a b:1", "socks5://fd00::1:1")


def paths(value, prefix=()):
    """Every place in the document."""
    yield prefix
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, prefix + (key,))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, prefix + (index,))


def parent_of(document, path):
    for step in path[:-1]:
        document = document[step]
    return document


def mutations():
    for path in paths(FULL):
        if not path:
            for value in VALUES:
                yield value
            continue
        for value in VALUES:
            changed = copy.deepcopy(FULL)
            parent_of(changed, path)[path[-1]] = value
            yield changed
        changed = copy.deepcopy(FULL)
        del parent_of(changed, path)[path[-1]]
        yield changed
        if isinstance(path[-1], str):
            changed = copy.deepcopy(FULL)
            parent = parent_of(changed, path)
            parent["zz" + path[-1]] = parent[path[-1]]
            yield changed


def one_policy(**members):
    return {"version": 1, "policies": {"p": {"mode": "enforce", **members}}}


class SchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        schema = subprocess.run([OAKUM, "policy", "schema"], check=True, capture_output=True)
        cls.schema = json.loads(schema.stdout)
        jsonschema.Draft202012Validator.check_schema(cls.schema)
        cls.validator = jsonschema.Draft202012Validator(cls.schema)
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)

    def parser_errors(self, document):
        path = os.path.join(self.folder.name, "policy.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file)
        result = subprocess.run([OAKUM, "policy", "check", path], capture_output=True, text=True)
        self.assertIn(result.returncode, (0, 1), result.stderr)
        lines = result.stderr.splitlines()
        self.assertEqual(result.returncode == 1, bool(lines), result.stderr)
        return lines

    def judge(self, document):
        """Fails unless both agree; returns whether the form is right."""
        valid = self.validator.is_valid(document)
        errors = self.parser_errors(document)
        form = [line for line in errors
                if "(and " not in line and not any(part in line for part in MEANING)]
        text = json.dumps(document)
        if valid:
            self.assertEqual(form, [], f"only the parser refuses {text}")
        else:
            self.assertTrue(errors, f"only the schema refuses {text}")
        return valid

    def test_full_example(self):
        self.assertTrue(self.judge(FULL))

    def test_mutations(self):
        judged = {True: 0, False: 0}
        for document in mutations():
            judged[self.judge(document)] += 1
        self.assertGreater(judged[True], 100)
        self.assertGreater(judged[False], 500)

    def test_rules(self):
        for rule in GOOD_RULES:
            for section in ("outgoing", "incoming"):
                self.assertTrue(self.judge(one_policy(**{section: {"allow": [rule]}})), rule)
        for rule in BAD_RULES:
            for section in ("outgoing", "incoming"):
                self.assertFalse(self.judge(one_policy(**{section: {"deny": [rule]}})), rule)
        self.assertFalse(self.judge(one_policy(outgoing={"deny": ["* from 1.2.3.4"]})))

    def test_redirect_rules(self):
        for rule in GOOD_VIA:
            self.assertTrue(self.judge(one_policy(outgoing={"redirect": [rule]})), rule)
        for rule in BAD_VIA:
            self.assertFalse(self.judge(one_policy(outgoing={"redirect": [rule]})), rule)
        for section in ("allow", "deny"):
            self.assertFalse(self.judge(one_policy(outgoing={section: ["* via a"]})))

    def test_resolve(self):
        for resolve in ("synthetic", "tor", "tcp://1.2.3.4:53", "tcp://[::1]:53", "tcp://a.b:1"):
            self.assertTrue(self.judge(one_policy(dns="proxy", resolve=resolve)), resolve)
        for resolve in ("", "udp://1.2.3.4:53", "tcp://1.2.3.4", "tcp://", "synthetic "):
            self.assertFalse(self.judge(one_policy(dns="proxy", resolve=resolve)), resolve)

    def test_unix_rules(self):
        for rule in GOOD_UNIX:
            if rule != "/":  # it has a slash at its end
                self.assertTrue(self.judge(one_policy(unix={"deny": [rule]})), rule)
        for rule in BAD_UNIX:
            self.assertFalse(self.judge(one_policy(unix={"deny": [rule]})), rule)

    def test_proxies(self):
        for url in BAD_URLS:
            self.assertFalse(self.judge({"version": 1, "proxies": {"p": {"url": url}}}), url)

    def test_names(self):
        for name in ("a", "A.b-c_9", "x" * 128):
            self.assertTrue(self.judge({"version": 1, "policies": {name: {"mode": "audit"}}}), name)
        for name in ("", ".a", "a b", "$a", "a/b", "x" * 129, "é"):
            self.assertFalse(self.judge({"version": 1, "policies": {name: {"mode": "audit"}}}), name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
