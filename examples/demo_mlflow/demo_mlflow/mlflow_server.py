"""Runs a real MLflow server on a free local port, with all it keeps in one folder."""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from demo_ctr.errors import DemoError
from demo_ctr.process import Process, free_ports
from train_ctr.mlflow_rest import Registry

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = REPOSITORY / ".venv-mlflow" / "bin" / "mlflow"
READY_SECONDS = 120

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Jobs cost 0.3 GB and half a minute of start-up.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # The server under test listens on loopback without TLS, which MLflow would not call by default.
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    # By default a new webhook may stay unknown for a minute.
    "MLFLOW_WEBHOOK_CACHE_TTL": "0",
}


@dataclass(frozen=True)
class Guards:
    """How an MLflow server stands in a company: TLS by an authority of its own, MLflow's users, a path before all."""

    certificate: Path
    key: Path
    admin_password: str
    prefix: str = "/ml"

    def arguments(self) -> list[str | Path]:
        """Of the command."""
        tls = f"--ssl-certfile {self.certificate} --ssl-keyfile {self.key}"
        return ["--app-name", "basic-auth", "--static-prefix", self.prefix, "--uvicorn-opts", tls]

    def environment(self, folder: Path) -> dict[str, str]:
        """Whoever is a user may read."""
        settings = {
            "default_permission": "READ",
            "database_uri": f"sqlite:///{folder}/users.db",
            "admin_username": "admin",
            "admin_password": self.admin_password,
            "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        }
        file = folder / "users.ini"
        lines = [f"{key} = {value}" for key, value in settings.items()]
        file.write_text("\n".join(["[mlflow]", *lines, ""]), encoding="utf-8")
        file.chmod(0o600)
        return {"MLFLOW_AUTH_CONFIG_PATH": str(file), "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe()}


class MlflowServer(Process):
    """MLflow with SQLite, proxied artifacts and one worker, on the same port however often it is started."""

    def __init__(self, folder: Path, log: Path, in_background: bool = False, guards: Guards | None = None) -> None:
        """`in_background` gives it only the processor time that nobody else wants: a machine of its own, almost."""
        if not PROGRAM.exists():
            raise DemoError(f"there is no MLflow at {PROGRAM}; install it first: make .venv-mlflow/ready")
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        # Secrets of webhooks are kept encrypted by this Fernet key; without one they are lost at a restart.
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        command: list[str | Path] = ["chrt", "--idle", "0"] if in_background else []
        command += [PROGRAM, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder.resolve()}/mlflow.db"]
        command += ["--artifacts-destination", str(folder.resolve() / "mlartifacts")]
        environment = os.environ | SETTINGS | {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": key}
        if guards is not None:
            self.url = f"https://127.0.0.1:{port}{guards.prefix}"
            command += guards.arguments()
            environment |= guards.environment(folder.resolve())
        super().__init__("MLflow", command, environment, log)

    def start_and_wait(self) -> None:
        """About 6 s."""
        self.start()
        self.wait_until_ready(f"{self.url}/health", READY_SECONDS)

    def registry(self) -> Registry:
        return Registry(self.url, {})
