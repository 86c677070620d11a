"""Proxies of the distribution, each started in a network namespace with an /etc/hosts of its own, so
that a name which a program hands to the proxy is resolved there and nowhere else."""
import itertools
import os
import socket

from . import env
from .proc import Process, run, wait_until

USER, PASSWORD = "oakum-proxy", "sesame-4711"
_IDS = itertools.count()
# Mounts files over those of /etc (by name, in pairs) and becomes the program.
_WITH_ETC = ('while [ "$1" != -- ]; do mount --bind "$2" "/etc/$1" || exit 1; shift 2; done; '
             'shift; exec "$@"')


def listens(address, netns=None):
    """Whether somebody listens at a (host, port) of a network namespace or at a unix path."""
    if isinstance(address, str):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(address) == 0
    host, port = address
    shown = run([*in_netns(netns), env.tool("ss"), "-Hltn", f"sport = :{port}"]).stdout
    return any(line.split()[3].rpartition(":")[0].strip("[]") in (host, "0.0.0.0", "*", "::")
               for line in shown.splitlines())


def in_netns(path):
    """What to put before a command that is to run in a network namespace; None: the current one."""
    return [] if path is None else [env.tool("nsenter"), f"--net={path}", "--"]


class Hosts:
    """Names that only the far side knows: an /etc/hosts file."""

    def __init__(self, directory, names):
        self.path = os.path.join(directory, f"hosts-{next(_IDS)}")
        with open(self.path, "w", encoding="ascii") as out:
            out.write("127.0.0.1 localhost\n")
            for name, addresses in names.items():
                out.writelines(f"{address} {name}\n" for address in addresses)


class Proxy:
    """A running proxy. `host`, `port`: where it listens in `netns`; log(): what it has said."""

    def __init__(self, directory, *, netns=None, host="127.0.0.1", port=1080, hosts=None):
        self.netns, self.host, self.port = netns, host, port
        self.directory = os.path.join(directory, f"{type(self).__name__.lower()}-{next(_IDS)}")
        os.makedirs(self.directory)
        self._hosts = hosts
        self._process = None

    def _etc(self):
        """Files that the program finds in /etc in the place of the machine's."""
        return {"hosts": self._hosts.path} if self._hosts is not None else {}

    def _command(self):
        raise NotImplementedError

    def _ready(self):
        return listens((self.host, self.port), self.netns)

    def start(self):
        etc = [part for name, path in self._etc().items() for part in (name, path)]
        self._process = Process(
            [*in_netns(self.netns), env.tool("unshare"), "-m", "--propagation", "private",
             "sh", "-c", _WITH_ETC, "sh", *etc, "--", *self._command()],
            os.path.join(self.directory, "log"))
        self._process.wait_for(self._ready, 20, f"{type(self).__name__} listens")
        return self

    def stop(self):
        if self._process is not None:
            self._process.stop()

    @property
    def pid(self):
        return self._process.pid

    def log(self):
        return self._process.output()

    def saw(self, text):
        """Waits until the log has it: some write a line only when the connection has ended."""
        wait_until(lambda: text in self.log(), 30, f"{text!r} in the log of the proxy:\n{self.log()}")

    def _write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path


class Microsocks(Proxy):
    """SOCKS5, names resolved by the proxy. The log has each name that it connected to."""

    def __init__(self, directory, *, user=None, password=None, **options):
        super().__init__(directory, **options)
        self._auth = ["-u", user, "-P", password] if user else []

    def _command(self):
        return [env.tool("microsocks"), "-i", self.host, "-p", str(self.port), *self._auth]


class Dante(Proxy):
    """SOCKS5 with the users of the machine: RFC 1929 for USER with PASSWORD, who is one only for
    this proxy. Also UDP ASSOCIATE. `methods`: what it accepts, "username" or "none"; debug: its log
    has the requests with their names."""

    def __init__(self, directory, *, methods="username", external="127.0.0.1", debug=False,
                 **options):
        super().__init__(directory, **options)
        self._methods, self._external = methods, external
        self._debug = ["-d", "1"] if debug else []

    def _etc(self):
        files = super()._etc()
        for name, line in (("passwd", f"{USER}:x:61234:65534::/:/usr/sbin/nologin\n"),
                           ("shadow", f"{USER}:{self._hash()}:19000:0:99999:7:::\n")):
            with open("/etc/" + name, encoding="utf-8") as source:
                files[name] = self._write(name, source.read() + line)
            os.chmod(files[name], 0o640 if name == "shadow" else 0o644)
        return files

    @staticmethod
    def _hash():
        return run([env.tool("openssl"), "passwd", "-6", "-stdin"], stdin=PASSWORD + "\n").stdout.strip()

    def _command(self):
        config = self._write("danted.conf", f"""
            logoutput: stderr
            internal: {self.host} port = {self.port}
            external: {self._external}
            clientmethod: none
            socksmethod: {self._methods}
            user.privileged: root
            user.unprivileged: nobody
            client pass {{ from: 0/0 to: 0/0 }}
            socks pass {{ from: 0/0 to: 0/0 log: connect error }}
        """)
        return [env.tool("danted"), "-f", config, "-p", os.path.join(self.directory, "pid"), "-N", "1",
                *self._debug]


class Tinyproxy(Proxy):
    """HTTP CONNECT, with Basic authentication where a user is named."""

    def __init__(self, directory, *, user=None, password=None, **options):
        super().__init__(directory, **options)
        self._auth = f"BasicAuth {user} {password}\n" if user else ""

    def _command(self):
        config = self._write("tinyproxy.conf", f"Port {self.port}\nListen {self.host}\n"
                             f"Timeout 60\nMaxClients 200\nLogLevel Connect\n{self._auth}")
        return [env.tool("tinyproxy"), "-d", "-c", config]


class Tor(Proxy):
    """Tor without a network: requests arrive, are seen at the control port and fail when they are
    told to. Names that end in .onion or .test are answered from its own pool of addresses, as with
    AutomapHostsOnResolve of tor(1). `unix`: the SOCKS port is a unix socket of that path."""

    def __init__(self, directory, *, unix=None, timeout=3, **options):
        super().__init__(directory, **options)
        self._unix, self._timeout = unix, timeout
        self._control = os.path.join(self.directory, "control")
        self._events = None

    def _command(self):
        # WorldWritable: below a directory that the test has closed or opened.
        port = f"unix:{self._unix} WorldWritable" if self._unix else f"{self.host}:{self.port}"
        config = self._write("torrc", f"""
            SocksPort {port} NoPreferIPv6Automap
            SocksTimeout {self._timeout}
            ControlPort unix:{self._control} RelaxDirModeCheck
            CookieAuthentication 0
            DataDirectory {self.directory}/data
            DisableNetwork 0
            SafeLogging 0
            Log notice stdout
            AutomapHostsOnResolve 1
            AutomapHostsSuffixes .onion,.test
            VirtualAddrNetworkIPv4 10.192.0.0/10
            ClientUseIPv6 1
        """)
        return [env.tool("tor"), "-f", config, "--defaults-torrc", "/dev/null"]

    def _ready(self):
        return listens(self._control) and (
            listens(self._unix) if self._unix else super()._ready())

    def start(self):
        super().start()
        self._events = socket.socket(socket.AF_UNIX)
        self._events.connect(self._control)
        self._events.settimeout(10)
        self._lines = self._events.makefile("r", encoding="ascii", newline="\r\n")
        for command in ("AUTHENTICATE", "SETEVENTS STREAM"):
            self._events.sendall(command.encode() + b"\r\n")
            answer = self._lines.readline()
            if not answer.startswith("250"):
                raise AssertionError(f"tor: {command}: {answer}")
        return self

    def stop(self):
        if self._events is not None:
            self._lines.close()
            self._events.close()
        super().stop()

    def requests(self):
        """The streams that clients have asked for since the last call: {"target": "NAME:PORT",
        "SOCKS_USERNAME": ...} (control-spec, STREAM events). Tor's own, to its directory, are left
        out."""
        seen = []
        self._events.sendall(b"GETINFO version\r\n")
        while not (line := self._lines.readline()).startswith("250 OK"):
            words = line.split()
            fields = dict(word.split("=", 1) for word in words[6:] if "=" in word)
            if (words[1:2] == ["STREAM"] and words[3] in ("NEW", "NEWRESOLVE") and
                    fields["PURPOSE"] in ("USER", "DNS_REQUEST")):
                seen.append({"target": words[5], "kind": words[3],
                             **{name: value.strip('"') for name, value in fields.items()}})
        return seen


class Authority:
    """A certificate authority of the test's own; `path` is its certificate."""

    def __init__(self, directory):
        self.directory = os.path.join(directory, f"authority-{next(_IDS)}")
        os.makedirs(self.directory)
        os.chmod(self.directory, 0o755)
        self.path = os.path.join(self.directory, "ca.pem")
        self._key = os.path.join(self.directory, "ca.key")
        run([env.tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-keyout", self._key, "-out", self.path, "-days",
             "2", "-subj", "/CN=Oakum test authority"])

    def issue(self, *names):
        """(certificate, key) for names and addresses, as paths."""
        base = os.path.join(self.directory, f"server-{next(_IDS)}")
        alternatives = ",".join(("IP:" if _is_address(name) else "DNS:") + name for name in names)
        with open(base + ".ext", "w", encoding="ascii") as out:
            out.write(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n")
        run([env.tool("openssl"), "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", base + ".key", "-out", base + ".csr", "-subj", "/CN=server"])
        run([env.tool("openssl"), "x509", "-req", "-in", base + ".csr", "-CA", self.path, "-CAkey",
             self._key, "-CAcreateserial", "-days", "2", "-extfile", base + ".ext", "-out",
             base + ".pem"])
        return base + ".pem", base + ".key"


def _is_address(name):
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
            return True
        except OSError:
            pass
    return False


class Stunnel(Proxy):
    """TLS in front of another proxy, or of one at a unix socket, which may be in another network."""

    def __init__(self, directory, behind, certificate, key, **options):
        super().__init__(directory, **{"netns": behind.netns, **options})
        self._behind, self._certificate, self._key = behind, certificate, key

    def _command(self):
        config = self._write("stunnel.conf", f"""
            foreground = yes
            pid =
            debug = 5
            [proxy]
            accept = {self.host}:{self.port}
            connect = {getattr(self._behind, "path", f"{self._behind.host}:{self._behind.port}")}
            cert = {self._certificate}
            key = {self._key}
        """.replace("            ", ""))
        return [env.tool("stunnel4"), config]


class UnixDoor(Proxy):
    """A unix socket in front of another proxy."""

    def __init__(self, directory, behind, path):
        super().__init__(directory, netns=behind.netns)
        self._behind, self.path = behind, path

    def _command(self):
        return [env.tool("socat"), f"UNIX-LISTEN:{self.path},fork,mode=666,backlog=64",
                f"TCP:{self._behind.host}:{self._behind.port}"]

    def _ready(self):
        return os.path.exists(self.path)
