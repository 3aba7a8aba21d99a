"""What every scene needs: a model with its versions in MLflow, and a server that follows its alias."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo_ctr import stubs
from demo_ctr.server import Server
from train_ctr.mlflow_rest import Registry

from demo_mlflow import expected, variants
from demo_mlflow.mlflow_server import REPOSITORY
from demo_mlflow.traffic import Traffic

COMMITTED = REPOSITORY / "models" / "ctr-upworthy" / "1"
# What the second version adds to each logit: rates differ by a quarter.
SHIFT = 0.25


class Stage:
    """One registered model of its own; `folder` takes the versions, the server's store and its log."""

    def __init__(self, registry: Registry, model: str, folder: Path) -> None:
        self.registry = registry
        self.model = model
        self.folder = folder
        self.folders: dict[int, Path] = {}
        self._sources: dict[int, str] = {}
        self._api = stubs.load()
        self._questions = expected.questions(COMMITTED)
        self._experiment = registry.experiment(model)
        registry.create_model(model)

    def add(self, directory: Path, tags: Mapping[str, str] | None = None) -> int:
        """Uploads `directory` as the next version."""
        source = self.registry.log_model(self._experiment, self.model, directory)
        version = self.registry.create_version(self.model, source, tags=tags)
        self.folders[version], self._sources[version] = directory, source
        return version

    def add_again(self, version: int) -> int:
        """The next version, of the same files: to the server as new as any other."""
        source = self._sources[version]
        new = self.registry.create_version(self.model, source)
        self.folders[new], self._sources[new] = self.folders[version], source
        return new

    def add_good(self, shift: float = SHIFT, widen: int = 1) -> int:
        """A version made from the committed one."""
        directory = Path(tempfile.mkdtemp(dir=self.folder)) / "version"
        variants.derive(COMMITTED, directory, shift, widen)
        return self.add(directory)

    def promote(self, version: int) -> float:
        """Moves the default alias; the time just before, by `time.monotonic`."""
        before = time.monotonic()
        self.registry.set_alias(self.model, "champion", version)
        return before

    @contextmanager
    def server(
        self, binary: Path, settings: Mapping[str, object] | None = None, webhook: bool = False
    ) -> Iterator[Server]:
        """A server on this model, ready. With `webhook` MLflow tells it at once when the alias moves."""
        given: dict[str, object] = {
            "registry.mlflow_url": self.registry.url,
            "registry.models": [self.model],
            "registry.poll_interval": "1s",
            "storage.path": str(self.folder / "storage"),
        }
        secret = self.folder / "webhook-secret"
        if webhook:
            secret.write_text(secrets.token_urlsafe(), encoding="utf-8")
            secret.chmod(0o600)
            given["registry.webhook_secret_file"] = str(secret)
        server = Server(binary, given | dict(settings or {}), self.folder / "server.log")
        address = f"http://{server.http}/webhooks/mlflow"
        known = self.registry.create_webhook(self.model, address, secret.read_text()) if webhook else None
        try:
            server.start_and_wait()
            yield server
        finally:
            server.stop()
            # MLflow would go on calling a server that is gone, and spend its few threads on it.
            if known is not None:
                self.registry.delete_webhook(known)

    def traffic(self, server: Server, rate: float) -> Traffic:
        """Callers that know what each version added so far must answer."""
        requests = expected.requests(self._api, self.model, self._questions)
        traffic = Traffic(server.grpc, self._api, requests, rate)
        for version in self.folders:
            self.teach(traffic, version)
        return traffic

    def teach(self, traffic: Traffic, version: int) -> None:
        """What `version` must answer."""
        traffic.expect(version, expected.answers(self.folders[version], self._questions))
