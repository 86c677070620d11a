"""A browser that knows nothing of a proxy: pages and what they fetch come through it, and QUIC, which
the server offers (Alt-Svc) and the proxy cannot carry, gives way to TCP."""
import os

from lib import case, env, far_world, proc, proxies, redirect_case
from lib.redirect_case import ON_THE_HOST, REACHABLE, redirect

# The page asks again for its own host, after it was told that this speaks HTTP/3, and for others.
_PAGE = """<body><script>
(async () => {
  let length = 0;
  for (let i = 0; i < 5; ++i) {
    length += (await (await fetch('/bytes/1000?' + i)).text()).length;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const others = await Promise.all(Array.from({length: 20}, (_, i) =>
    fetch(`https://n${i}.example.test/slow/10`, {mode: 'no-cors'})));
  document.body.textContent = `length ${length}, others ${others.length}`;
})();
</script></body>
"""
_UNFINISHED = "setTimeout(resolve"  # the script, which the page replaces with what it has got
_TRIES = 4
PROGRAM = "/usr/lib/chromium/chromium"
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--disable-sync",
          "--disable-default-apps", "--disable-dev-shm-usage", "--disable-crash-reporter",
          "--disable-breakpad", "--user-data-dir=/tmp/profile", "--enable-quic",
          "--virtual-time-budget=30000", "--dump-dom")


class Chromium(redirect_case.RedirectCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not os.path.exists(PROGRAM):
            env.tool("chromium")
            raise AssertionError(f"chromium has no {PROGRAM}")
        with open(os.path.join(cls.world.root, "page.html"), "w", encoding="ascii") as out:
            out.write(_PAGE)
        for host, port in ((REACHABLE, 1080), (ON_THE_HOST, 1081)):
            cls.add(proxies.Microsocks(cls.directory, **cls.proxy_options(host, port)))
        cls.guard, cls.engine = cls.add_agent(redirect_case.policy_file(
            {"reachable": f"socks5h://{REACHABLE}:1080", "host": f"socks5h://{ON_THE_HOST}:1081"},
            {name: redirect(name) for name in ("reachable", "host")}))
        # The browser takes this one key for trusted.
        cls.key = proc.run(
            ["sh", "-c", 'openssl x509 -in "$0" -noout -pubkey | openssl pkey -pubin -outform der |'
             ' openssl dgst -sha256 -binary | openssl base64', cls.world.certificate]).stdout.strip()

    def page(self, policy=None, network=True):
        # Its virtual time passes as a whole where a renderer has nothing to do for a moment, and
        # then it shows a page that is not ready: without a guard as well, on a busy machine.
        for _ in range(_TRIES):
            self.far.reset()
            path = self.container(
                [PROGRAM, *_FLAGS, f"--ignore-certificate-errors-spki-list={self.key}",
                 "https://www.example.test/page.html"], policy=policy, network=network)
            done = self.engine.run(path, guarded=policy is not None, timeout=120)
            if _UNFINISHED not in done.stdout:
                break
        self.assertIn("length 5000, others 20", done.stdout, done)

    def test_pages_come_through_the_proxy(self):
        self.page()
        self.assertGreater(self.far.packets(far_world.DNS, "udp", 53), 0)
        self.assertGreater(self.far.packets(protocol="tcp", port=443), 20)
        self.assertGreater(self.far.packets(protocol="udp", port=443), 0)  # QUIC
        self.page("reachable")
        self.assertEqual(self.world.leaked((REACHABLE, 1080)), 0)
        self.assertGreater(self.far.packets(REACHABLE, "tcp", 1080), 20)
        self.page("host", network=False)
        self.assertEqual(self.far.packets(), 0)


if __name__ == "__main__":
    case.main()
