"""nginx with two workers, and wrk: a static file, a proxied one (each request a connection of nginx's
own), and one over a unix socket."""
import re

import common
from common import Server, pattern, run, sha256, write

CONFIG = """
worker_processes 2;
daemon off;
pid /tmp/work/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path /tmp/work/body; proxy_temp_path /tmp/work/proxy;
  fastcgi_temp_path /tmp/work/fastcgi; uwsgi_temp_path /tmp/work/uwsgi;
  scgi_temp_path /tmp/work/scgi;
  sendfile on;
  server { listen 127.0.0.1:8081; listen unix:/tmp/work/nginx.sock; root /tmp/work/site; }
  server {
    listen 127.0.0.1:8080; listen [::1]:8080;
    location / { root /tmp/work/site; }
    location /tcp/ { proxy_pass http://127.0.0.1:8081/; }
    location /unix/ { proxy_pass http://unix:/tmp/work/nginx.sock:/; }
  }
}
"""


def load(path):
    """Requests a second, and whether every one was answered well."""
    out = run("/usr/bin/wrk", "--threads", "2", "--connections", "50", "--duration", "1s",
              f"http://localhost:8080{path}")
    rate = float(re.search(r"Requests/sec:\s*([0-9.]+)", out).group(1))
    bad = [line.strip() for line in out.splitlines() if "Socket errors" in line or "Non-2xx" in line]
    return rate, bad, rate > 0


def main():
    common.work_directory()
    write("site/file", pattern(2000))
    write("site/large", pattern(3000000))
    config = write("/tmp/work/nginx.conf", CONFIG)
    outcome = {}
    with Server("/usr/sbin/nginx", "-c", config, "-e", "stderr",
                listens_at=("127.0.0.1", 8080)) as server:
        for name, url in {"file": "http://127.0.0.1:8080/file", "ipv6": "http://[::1]:8080/large",
                          "proxied": "http://localhost:8080/tcp/large",
                          "proxied unix": "http://localhost:8080/unix/large"}.items():
            run("/usr/bin/curl", "-sS", "--fail", "-o", "got", url)
            outcome[name] = sha256("got")
        static, *outcome["static load"] = load("/file")
        tcp, *outcome["tcp load"] = load("/tcp/file")
        unix, *outcome["unix load"] = load("/unix/file")
        # A new configuration: new workers take over, old ones end.
        run("/usr/sbin/nginx", "-c", config, "-e", "stderr", "-s", "reload")
        run("/usr/bin/curl", "-sS", "--fail", "-o", "got", "http://127.0.0.1:8080/file")
        outcome["reloaded"] = sha256("got")
        outcome["log"] = [line for line in server.log().splitlines() if "[" in line]
    common.report(outcome, static_per_s=static, proxied_per_s=tcp, proxied_unix_per_s=unix)


if __name__ == "__main__":
    main()
