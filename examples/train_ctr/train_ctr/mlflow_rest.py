"""MLflow's registry over plain HTTP: the few calls that put a model version in, and move it.

Needs a server that proxies its artifacts, MLflow's default, and none of MLflow's own packages.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PROXIED = "mlflow-artifacts:/"
CALL_SECONDS = 60.0


class MlflowError(Exception):
    """MLflow refused a call or did not answer; `code` is its own name for the reason, if it gave one."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Provenance:
    """Where a version comes from: its run's params, tags and metrics."""

    params: Mapping[str, object]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


class Registry:
    """One MLflow server. Credentials come from the environment, under the names that MLflow's own client reads."""

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        self.url = url.rstrip("/")
        self._headers = _authorization(environment)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made if there is none."""
        try:
            return str(self._get("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"])
        except MlflowError as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
        return str(self._post("experiments/create", name=name)["experiment_id"])

    def run(self, experiment_id: str, provenance: Provenance) -> str:
        """A finished run that holds `provenance`; its id."""
        started = self._post("runs/create", experiment_id=experiment_id)
        run_id = started["run"]["info"]["run_id"]
        time = started["run"]["info"]["start_time"]
        self._post(
            "runs/log-batch",
            run_id=run_id,
            params=[{"key": key, "value": str(value)} for key, value in provenance.params.items()],
            tags=[{"key": key, "value": value} for key, value in provenance.tags.items()],
            metrics=[
                {"key": key, "value": value, "timestamp": time, "step": 0} for key, value in provenance.metrics.items()
            ],
        )
        self._post("runs/update", run_id=run_id, status="FINISHED", end_time=time)
        return str(run_id)

    def log_model(self, experiment_id: str, name: str, directory: Path, run_id: str = "") -> str:
        """Uploads `directory` as a logged model; the source that a version is created from."""
        source = {"source_run_id": run_id} if run_id else {}
        info = self._post("logged-models", experiment_id=experiment_id, name=name, **source)["model"]["info"]
        model_id = info["model_id"]
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            self.upload(info["artifact_uri"], path.relative_to(directory).as_posix(), path)
        self._call("PATCH", f"{API}/logged-models/{model_id}", {"model_id": model_id, "status": "LOGGED_MODEL_READY"})
        return f"models:/{model_id}"

    def upload(self, artifact_uri: str, name: str, path: Path) -> None:
        """Puts one file below `artifact_uri`."""
        if not artifact_uri.startswith(PROXIED):
            raise MlflowError(
                f"{self.url} keeps artifacts at {artifact_uri}, beyond its own HTTP API; "
                "start it with --artifacts-destination instead of --default-artifact-root"
            )
        root = artifact_uri.removeprefix(PROXIED)
        self._send("PUT", f"{ARTIFACTS}/{quote(f'{root}/{name}')}", path.read_bytes(), "application/octet-stream")

    def create_model(self, name: str) -> None:
        """Makes the registered model, if there is none of this name."""
        try:
            self._post("registered-models/create", name=name)
        except MlflowError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise

    def tag_model(self, name: str, key: str, value: str) -> None:
        """Sets a tag of the registered model."""
        self._post("registered-models/set-tag", name=name, key=key, value=value)

    def create_version(self, name: str, source: str, run_id: str = "", tags: Mapping[str, str] | None = None) -> int:
        """Makes the next version of `name` from a logged model; its number."""
        more: dict[str, Any] = {"run_id": run_id} if run_id else {}
        if tags:
            more["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
        model_id = source.removeprefix("models:/")
        answer = self._post("model-versions/create", name=name, source=source, model_id=model_id, **more)
        return int(answer["model_version"]["version"])

    def find(self, filter_string: str) -> list[dict[str, Any]]:
        """The registered models that a search filter finds, a thousand at most."""
        found = self._get("registered-models/search", filter=filter_string, max_results="1000")
        return list(found.get("registered_models", []))

    def version(self, name: str, version: int) -> dict[str, Any]:
        """What MLflow knows of a version."""
        return dict(self._get("model-versions/get", name=name, version=str(version))["model_version"])

    def download_uri(self, name: str, version: int) -> str:
        """Where the files of a version are."""
        return str(self._get("model-versions/get-download-uri", name=name, version=str(version))["artifact_uri"])

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Points `alias` at `version`, wherever it pointed before."""
        self._post("registered-models/alias", name=name, alias=alias, version=str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        self._call("DELETE", f"{API}/registered-models/alias", {"name": name, "alias": alias})

    def delete_version(self, name: str, version: int) -> None:
        """Its aliases go with it; its files stay."""
        self._call("DELETE", f"{API}/model-versions/delete", {"name": name, "version": str(version)})

    def create_webhook(self, name: str, url: str, secret: str) -> str:
        """Has MLflow call `url`, signed with `secret`, whenever an alias is set or deleted; the webhook's id."""
        events = [{"entity": "MODEL_VERSION_ALIAS", "action": action} for action in ("CREATED", "DELETED")]
        answer = self._post("webhooks", name=name, url=url, secret=secret, events=events)
        return str(answer["webhook"]["webhook_id"])

    def delete_webhook(self, webhook_id: str) -> None:
        self._call("DELETE", f"{API}/webhooks/{quote(webhook_id)}")

    def _get(self, call: str, **parameters: str) -> dict[str, Any]:
        return self._call("GET", f"{API}/{call}?{urlencode(parameters)}")

    def _post(self, call: str, **body: object) -> dict[str, Any]:
        return self._call("POST", f"{API}/{call}", body)

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        answer: dict[str, Any] = json.loads(self._send(method, path, data, "application/json") or b"{}")
        return answer

    def _send(self, method: str, path: str, data: bytes | None, content: str) -> bytes:
        headers = self._headers | {"Content-Type": content}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        what = f"{method} {self.url}{path.split('?')[0]}"
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise _refusal(what, error.code, error.read()) from error
        except OSError as error:
            raise MlflowError(f"{what}: no answer ({error}); is MLflow running there?") from error


def _refusal(what: str, status: int, body: bytes) -> MlflowError:
    try:
        told = json.loads(body)
        code, message = told["error_code"], told["message"]
    except (ValueError, KeyError, TypeError):
        code, message = "", body[:300].decode(errors="replace").strip()
    return MlflowError(f"{what}: {code or f'status {status}'}: {message}", code)


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    if user := environment.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{environment.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    if token := environment.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}
