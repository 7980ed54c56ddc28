"""nginx with nchan, of Debian's packages."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from load import DATA, Publishing, Stream

from peers.server import Missing, Peer, Running, Workload, free_port, launched

_CONFIGURATION = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 19000; multi_accept on; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  nchan_max_reserved_memory 512M;
  nchan_message_timeout 300s;
  nchan_message_buffer_length 1000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096 {tls};
    location = /pub {{
      nchan_publisher;
      nchan_channel_id $arg_c;
    }}
    location = /sub {{
      nchan_subscriber {subscriber};
      nchan_channel_id $arg_c;
      nchan_channel_id_split_delimiter ",";
      nchan_subscriber_first_message newest;
      nchan_eventsource_ping_interval {keep_alive:.0f};
    }}
  }}
  server {{
    listen 127.0.0.1:{publishing_port};
    location = /pub {{ nchan_publisher; nchan_channel_id $arg_c; }}
  }}
}}
"""


def _programs() -> tuple[str, Path]:
    nginx, module = shutil.which("nginx"), Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
    if nginx is None or not module.exists():
        raise Missing("not installed")
    return nginx, module


def _publish(channel: int) -> bytes:
    return (
        b"POST /pub?c=%d HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (channel, len(DATA), DATA)
    )


@contextlib.contextmanager
def _run(workload: Workload, folder: Path, cores: frozenset[int]) -> Iterator[Running]:
    nginx, module = _programs()
    port, publishing_port = free_port(), free_port()
    tls = ""
    if workload.certificate is not None:
        tls = f"ssl; ssl_certificate {workload.certificate}; "
        tls += f"ssl_certificate_key {workload.certificate}"
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            module=module,
            folder=folder,
            port=port,
            publishing_port=publishing_port,
            tls=tls,
            subscriber="websocket" if workload.websocket else "eventsource",
            keep_alive=workload.keep_alive,
        )
    )
    streams = [
        Stream(f"/sub?c={','.join(map(str, channels))}", channels) for channels in workload.streams
    ]
    templates = [_publish(number) for number in range(workload.channels)]
    command = [nginx, "-p", str(folder), "-c", str(configuration), "-e", f"{folder}/error.log"]
    with launched(command, folder, cores, port) as pid:
        yield Running(pid, port, streams, Publishing(publishing_port, templates, "HTTP/1.1 2"))


PEER = Peer("nginx + nchan", "a b c c2 c3 d e f ha hb hc i ie ir", _run)
