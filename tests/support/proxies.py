"""nginx, HAProxy and Caddy, each with the file that is shipped for it in ``contrib/``."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support import EVENT_TIMEOUT, end, eventually, free_port
from tests.support.certificates import root
from tests.support.daemon import ROOT, Daemon, Stream, running_daemon
from tests.support.websocket import received

CONTRIB = ROOT / "contrib"
PAGE_ON_PATHS = (ROOT / "docs" / "howto-path.md").read_text()

#: Seconds after which a silent connection is cut, in the files.
SHIPPED = "60s"

#: Whose pages may connect, besides those of the proxy's own host.
ORIGIN = ("--origin", "https://app.example")

#: Where Debian has servers, and the PATH of users has not.
PROGRAMS = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


class Proxy:
    """A proxy on a free port of this machine, with all that it writes in `folder`."""

    name: str
    options: tuple[str, ...] = ()
    #: What stands before all paths of the daemon.
    prefix = ""

    def __init__(self, folder: Path, daemon: Daemon, socket_path: Path, timeout: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.daemon = daemon
        self.context = root().client()
        self._process: subprocess.Popen[bytes] | None = None
        issued = root().issue("127.0.0.1")
        self.certificate = folder / "server.pem"
        self.certificate.write_bytes(issued.certificate + root().certificate + issued.key)
        self._socket_path = socket_path
        self._timeout = timeout

    def text(self, file: str) -> str:
        """Return the file."""
        return (CONTRIB / self.name / file).read_text()

    def shipped(self, file: str, places: dict[str, str]) -> str:
        """Return the text, with what is another on every machine replaced: all of `places`."""
        text = self.text(file)
        for place, value in {SHIPPED: self._timeout, **places}.items():
            assert place in text, place
            text = text.replace(place, value)
        return text

    def command(self, program: str) -> list[str]:
        """Write the configuration, and return the command that serves it in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start, and return when the daemon can be reached."""
        program = shutil.which(self.name, path=PROGRAMS)
        if program is None:
            pytest.skip(f"there is no {self.name}")
        with (self.folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                self.command(program),
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        eventually(self.reaches_the_daemon, f"{self.name} reaches the daemon")

    def reaches_the_daemon(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.logs()
        try:
            with self.request("/status", Accept="*/*") as stream:
                return stream.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            end(self._process)

    def request(self, path: str, **headers: str) -> Stream:
        """Make a request over HTTP/1.1, for a path of the daemon; the answer may be any."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Host"] = f"127.0.0.1:{self.port}"
        return Stream(self.port, f"{self.prefix}{path}", named, context=self.context)

    def stream(self, token: str, **headers: str) -> Stream:
        """Open an event stream; the answer may be any."""
        return self.request(f"/?access_token={token}", **headers)

    @contextlib.contextmanager
    def websocket(self, query: str, **options: Any) -> Iterator[ClientConnection]:
        """Open a WebSocket, and read what comes first."""
        url = f"wss://127.0.0.1:{self.port}{self.prefix}/{query}"
        options = {"open_timeout": EVENT_TIMEOUT} | options
        with connect(url, ssl=root().client_of_threads(), proxy=None, **options) as client:
            assert received(client)["event"] == "authentication"
            yield client

    def logs(self) -> str:
        """Return all that it has logged, anywhere."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


class Nginx(Proxy):
    name = "nginx"

    def command(self, program: str) -> list[str]:
        places = {
            "/run/sinapse/sinapse.sock": str(self._socket_path),
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "push.example.com": "127.0.0.1",
            "/etc/ssl/sinapse/fullchain.pem": str(self.certificate),
            "/etc/ssl/sinapse/privkey.pem": str(self.certificate),
            "/var/log/nginx/": f"{self.folder}/",
        }
        (self.folder / "sinapse.conf").write_text(self.shipped("sinapse.conf", places))
        paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        main = self.folder / "nginx.conf"
        main.write_text(
            ("user root;\n" if os.getuid() == 0 else "")
            + f"daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log;\n"
            + "events { worker_connections 8192; } http {\n"
            + "".join(f"{path}_temp_path {self.folder}/{path};\n" for path in paths)
            + f"include {self.folder}/sinapse.conf; }}\n"
        )
        return [program, "-e", "stderr", "-p", str(self.folder), "-c", str(main)]


class HAProxy(Proxy):
    name = "haproxy"

    def command(self, program: str) -> list[str]:
        places = {
            "/dev/log local0": "stdout format raw local0",
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/haproxy/sinapse.pem": str(self.certificate),
            "127.0.0.1:9000 ": f"127.0.0.1:{self.daemon.port} ",
        }
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(self.shipped("haproxy.cfg", places))
        return [program, "-db", "-f", str(configuration)]


class Caddy(Proxy):
    name = "caddy"

    def command(self, program: str) -> list[str]:
        # Where it listens for commands, and for HTTP without TLS, is the machine's business.
        own = "\tadmin off\n\tauto_https disable_redirects\n"
        places = {
            "127.0.0.1:9000 ": f"127.0.0.1:{self.daemon.port} ",
            "push.example.com {\n": f"https://127.0.0.1:{self.port} {{\n"
            f"\ttls {self.certificate} {self.certificate}\n",
            "\n{\n": f"\n{{\n{own}",
        }
        configuration = self.folder / "Caddyfile"
        configuration.write_text(self.shipped("Caddyfile", places))
        return [program, "run", "--config", str(configuration), "--adapter", "caddyfile"]


PROXIES = {proxy.name: proxy for proxy in (Nginx, HAProxy, Caddy)}


class UnderPath(Proxy):
    """A proxy whose file is changed as the page on paths says."""

    prefix = "/push"

    def said(self) -> list[str]:
        """Return the blocks of the page that are for this proxy."""
        [start] = re.findall(rf"^## {self.name}$", PAGE_ON_PATHS, re.MULTILINE | re.IGNORECASE)
        section = PAGE_ON_PATHS.partition(f"{start}\n")[2].partition("\n## ")[0]
        return re.findall(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)

    def changed(self, file: str, changes: dict[str, str]) -> str:
        """Return the file of the other proxy, with what is in `changes` replaced: all of them."""
        text = super().text(file)
        for former, latter in changes.items():
            before, after = re.split(former, text, maxsplit=1, flags=re.DOTALL)
            text = before + latter + after
        return text


#: Those of a site of one's own: with whole request lines.
SITE_LOGS = """    access_log /var/log/nginx/site.log;
    error_log /var/log/nginx/site-error.log;
"""


class NginxUnderPath(UnderPath, Nginx):
    def text(self, file: str) -> str:
        location, logs = self.said()
        return self.changed(
            file,
            {
                r"    location / \{\n        proxy_pass http://sinapse;\n": location + logs,
                r"(?<=    location @away \{\n)": logs,
                # The rest of the site has logs that quote requests as they are.
                r"\n    access_log [^;]*;\n[^;]*;\n": f"\n{SITE_LOGS}",
            },
        )


class HAProxyUnderPath(UnderPath, HAProxy):
    def text(self, file: str) -> str:
        frontend, backend = self.said()
        return self.changed(
            file,
            {
                r"    use_backend event-streams if .*?default_backend sinapse\n": frontend,
                r"(?<=\nbackend sinapse\n)": backend,
                r"(?<=\nbackend event-streams\n)": backend,
            },
        )


class CaddyUnderPath(UnderPath, Caddy):
    def text(self, file: str) -> str:
        site, errors = self.said()
        return self.changed(
            file,
            {
                r"\treverse_proxy .*?\n\t\}\n": site,
                r"\thandle_errors \{\n\t\t@events header [^\n]*\n": errors,
            },
        )


UNDER_PATH = {proxy.name: proxy for proxy in (NginxUnderPath, HAProxyUnderPath, CaddyUnderPath)}


@contextlib.contextmanager
def running_proxies(
    redis_url: str,
    keep_alive: str,
    timeout: str,
    kinds: Mapping[str, type[Proxy]] = PROXIES,
) -> Iterator[Callable[[str], Proxy]]:
    """Run a daemon for the length of a with block, and those proxies that are asked for."""
    with contextlib.ExitStack() as stack:
        # UNIX sockets have short paths.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sinapse-")))
        socket_path = folder / "sinapse.sock"
        options = ["--port", f"unix:{socket_path}", "--keep-alive", keep_alive, *ORIGIN]
        options += ["--trusted-proxies", "127.0.0.1"]
        daemon = stack.enter_context(running_daemon(folder, redis_url, *options))
        running: dict[str, Proxy] = {}

        def start(name: str) -> Proxy:
            if name not in running:
                own = folder / name
                own.mkdir()
                proxy = kinds[name](own, daemon, socket_path, timeout)
                stack.callback(proxy.stop)
                proxy.start()
                running[name] = proxy
            return running[name]

        yield start
