"""The processes of the compose files, started as it is written there, with the addresses of this computer."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from compose import DEPLOY, GIVEN, services
from databases import database
from live_celery import Running
from live_server import MailServer, _Keeper, free_port, wait_until
from live_visitors import LiveProgram

pytestmark = pytest.mark.slow


def installed(name: str) -> str:
    """Return the path of a program; skip the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        if name in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
            pytest.fail(f"{name} is required and not installed")
        pytest.skip(f"{name} is not installed")
    return found


class SecureMailServer(MailServer):
    """Takes mails by STARTTLS alone, from who knows the password."""

    def __init__(self, port: int, certificates: Path) -> None:
        super().__init__()
        self.port = port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificates / "certificate.pem", certificates / "key.pem")

    def up(self) -> None:
        """Listen."""
        self._controller = Controller(
            _Keeper(self),
            hostname="127.0.0.1",
            port=self.port,
            tls_context=self._tls,
            require_starttls=True,
            auth_required=True,
            authenticator=_log_in,
        )
        self._controller.start()


def _log_in(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"accountflow", GIVEN["MAIL_PASSWORD"].encode()))


class Web:
    """A web server, as visitors need to know it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, visitor: str = "127.0.0.1", **headers: str) -> tuple[int, bytes]:
        """Return the status and the body of the answer that the visitor at this address gets."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(visitor, 0))
        try:
            connection.request(method, path, headers={"Connection": "close", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answers(self) -> bool:
        """Tell whether it says that it is well."""
        try:
            return self.ask("GET", "/healthz")[0] == 200
        except OSError:
            return False


class Stage:
    """The services of a compose file. ``places`` are what stands here for addresses and folders of the containers."""

    def __init__(self, name: str, folder: Path, places: Mapping[str, str]) -> None:
        self.services = services(DEPLOY / f"compose.{name}.yaml", GIVEN)
        self.folder = folder
        self._places = {**places, "0.0.0.0": "127.0.0.1", "/tmp/": f"{folder}/"}
        self._running: list[Running] = []

    def _here(self, text: str, more: Mapping[str, str]) -> str:
        places = {**self._places, **more}
        if text in places:
            return places[text]
        # In one go, because one place may stand in what another becomes. A word alone is a host or a port as a whole.
        parts = "|".join(re.escape(place) for place in places if not place.isalnum())
        return re.sub(parts, lambda found: places[found[0]], text)

    def command(self, name: str, more: Mapping[str, str]) -> list[str]:
        """Return the command of a service."""
        return [self._here(word, more) for word in self.services[name].command]

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a service; the programs of its image are those of this environment."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FLASK_")}
        path = os.pathsep.join([str(Path(sys.executable).parent), str(DEPLOY), inherited["PATH"]])
        own = {key: self._here(value, {}) for key, value in self.services[name].environment.items()}
        return {**inherited, "PATH": path, "XDG_RUNTIME_DIR": str(self.folder), **own}

    def run(self, name: str) -> None:
        """Run a service that ends by itself."""
        self._run(name, self.command(name, {}))

    def check_health(self, name: str, **more: str) -> None:
        """Run the health check of a service, which must find it well."""
        kind, *words = self.services[name].data["healthcheck"]["test"]
        assert kind == "CMD"
        self._run(name, [self._here(word, more) for word in words])

    def _run(self, name: str, command: list[str]) -> None:
        environment = self.environment(name)
        done = subprocess.run(
            command, env=environment, cwd=DEPLOY.parent, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, name: str, *options: str, **more: str) -> Running:
        """Start a service that goes on."""
        self._running.append(Running(name, [*self.command(name, more), *options], self.environment(name), self.folder))
        return self._running[-1]

    def wait_for(self, *webs: Web) -> None:
        """Wait until web servers answer; fail when a process has ended."""

        def are_up() -> bool:
            for one in self._running:
                one.check()
            return all(web.answers() for web in webs)

        wait_until(are_up, "every web server answers")

    def close(self) -> None:
        """End every process, the last first."""
        for running in reversed(self._running):
            running.kill()


@contextmanager
def staged(name: str, folder: Path, places: Mapping[str, str]) -> Iterator[Stage]:
    """Yield the services of a compose file, and end them."""
    stage = Stage(name, folder, places)
    try:
        yield stage
    finally:
        stage.close()


class Production:
    """The production file: two web servers, a worker, beat, Redis, and a mail server that is reached by TLS alone."""

    def __init__(self, stage: Stage, mail_port: int, redis_port: int, certificates: Path) -> None:
        self.stage = stage
        for name in ("ca", "mail"):
            (certificates / name).mkdir(parents=True)
        stage.run("certificates")
        self.mail = SecureMailServer(mail_port, certificates / "mail")
        stage.start("redis", "--port", str(redis_port), "--bind", "127.0.0.1", "--dir", str(stage.folder))
        stage.run("migrate")
        self.webs = [Web(free_port()) for _ in range(stage.services["web"].data["deploy"]["replicas"])]
        for web in self.webs:
            stage.start("web", **{":8000": f":{web.port}"})
        self.worker = stage.start("worker")
        stage.start("beat")
        stage.wait_for(*self.webs)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Everything of the production file runs, on an empty database of PostgreSQL."""
    for name in ("redis-server", "openssl"):
        installed(name)
    folder = tmp_path_factory.mktemp("production")
    mail_port, redis_port = free_port(), free_port()
    with database("postgresql", folder) as engine:
        address = engine.url.render_as_string(hide_password=False).partition("://")[2]
        places = {
            "accountflow:a1@postgres/accountflow": address,
            "@redis:6379": f"@127.0.0.1:{redis_port}",
            # The name that stands in the certificate.
            "mail": "localhost",
            "1025": str(mail_port),
            "/certificates/": f"{folder / 'certificates'}/",
        }
        with staged("production", folder, places) as stage:
            site = Production(stage, mail_port, redis_port, folder / "certificates")
            with site.mail:
                yield site


def sign_up(mail: MailServer, web: Web) -> str:
    """Sign up, and return the path of the link that was mailed."""
    email = f"{uuid.uuid4().hex}@example.com"
    assert LiveProgram(web).signup(email).status_code == 202  # type: ignore[arg-type]  # all it needs is the port
    link = mail.link(email, "verify")
    assert link.startswith(f"{GIVEN['BASE_URL']}/auth/verify/")
    return urlsplit(link).path


def test_an_account_of_the_production_file(production: Production) -> None:
    """Who signs up at one web server gets the mail from the worker, by TLS, and confirms at the other one."""
    first, second = production.webs

    path = sign_up(production.mail, first)
    answer = LiveProgram(second).verify(path)  # type: ignore[arg-type]

    assert answer.status_code == 200, answer.text
    assert production.worker.said("event=mail_sent")


def test_the_health_of_the_production_file(production: Production) -> None:
    """The health check of each web server passes, and fails where none listens."""
    for web in production.webs:
        production.stage.check_health("web", **{":8000": f":{web.port}"})
        status, body = web.ask("GET", "/healthz")
        assert (status, json.loads(body)["status"]) == (200, "ok")
    with pytest.raises(AssertionError, match="Connection refused"):
        production.stage.check_health("web", **{":8000": f":{free_port()}"})


@contextmanager
def fronted(webs: Sequence[Web], folder: Path) -> Iterator[Web]:
    """Yield nginx before web servers, by the file for deployment."""
    web = Web(free_port())
    conf = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    servers = " ".join(f"server 127.0.0.1:{one.port};" for one in webs)
    conf = conf.replace("server web:8000;", servers).replace("listen 8080;", f"listen 127.0.0.1:{web.port};")
    # What the image of nginx has around the file.
    paths = " ".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = f"daemon off; pid {folder}/nginx.pid; events {{}} http {{ access_log off; {paths} {conf} }}"
    (folder / "nginx.conf").write_text(conf, encoding="utf-8")
    line = [installed("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log")]
    nginx = Running("nginx", line, os.environ, folder)
    try:
        wait_until(web.answers, "nginx answers")
        yield web
    finally:
        nginx.kill()


@pytest.fixture
def front(production: Production) -> Iterator[Web]:
    """Nginx before both web servers."""
    with fronted(production.webs, production.stage.folder) as web:
        yield web


def test_the_front_of_the_production_file(production: Production, front: Web) -> None:
    """Nginx hands requests to both web servers, which count tries by the visitor's address and not by his word."""
    path, taken = "/auth/verify/no-link", []
    # 20 links in a minute may be wrong, for each visitor, and another 20 when that minute ends in between.
    while len(taken) < 41 and 429 not in taken:
        claim = f"203.0.113.{len(taken)}"
        taken.append(front.ask("POST", path, **{"X-Forwarded-For": claim, "Forwarded": f"for={claim}"})[0])
    other = front.ask("POST", path, visitor="127.0.0.2")[0]

    assert len(taken) > 20
    assert taken[-1] == 429
    assert other != 429
    logs = sorted(production.stage.folder.glob("web-*.log"))
    wait_until(lambda: all(f"POST {path}" in log.read_text() for log in logs), "both have served")
    assert len(logs) == 2


def test_the_development_file(tmp_path: Path) -> None:
    """The app of the development file serves in debug, and its mails are caught."""
    with MailServer() as mail:
        web = Web(free_port())
        places = {"mail": "127.0.0.1", "1025": str(mail.port), "--port 5000": f"--port {web.port}"}
        with staged("development", tmp_path, places) as stage:
            stage.start("app")
            stage.wait_for(web)
            email = f"{uuid.uuid4().hex}@example.com"

            assert LiveProgram(web).signup(email).status_code == 202  # type: ignore[arg-type]
            link = mail.link(email, "verify")

            assert link.startswith("http://localhost:5000/auth/verify/")
            assert LiveProgram(web).verify(urlsplit(link).path).status_code == 200  # type: ignore[arg-type]
