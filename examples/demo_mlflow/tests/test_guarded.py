"""MLflow as it stands in a company: TLS by an authority of its own, users with passwords, a path before its calls."""

from __future__ import annotations

import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_ctr.server import Server
from demo_mlflow import page
from demo_mlflow.mlflow_server import PROGRAM, REPOSITORY, Guards, MlflowServer
from demo_mlflow.stage import Stage
from train_ctr.mlflow_rest import Registry

BINARY = Path(os.environ.get("SERVER_UNDER_TEST", REPOSITORY / "target/debug/aibuyer-server"))
ADMIN, READER = "the admin's own password", "the engine's own password"
RATE = 50
PATIENCE = 60.0

# Runs where the package `cryptography` is: beside MLflow.
MAKE_CERTIFICATES = """
import datetime, ipaddress, sys
from pathlib import Path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

def certificate(subject, key, issuer, signer, authority):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if not authority:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

folder = Path(sys.argv[1])
authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
(folder / "ca.pem").write_bytes(certificate("Test CA", authority, "Test CA", authority, True))
(folder / "server.pem").write_bytes(certificate("mlflow", server, "Test CA", authority, False))
(folder / "server.key").write_bytes(server.private_bytes(serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server of which Python trusts the authority, as a client on the company's machines would."""
    folder = tmp_path_factory.mktemp("guarded")
    subprocess.run([PROGRAM.parent / "python", "-c", MAKE_CERTIFICATES, folder], check=True)
    trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=folder / "ca.pem"))
    urllib.request.install_opener(urllib.request.build_opener(trusting))
    guards = Guards(folder / "server.pem", folder / "server.key", ADMIN)
    server = MlflowServer(folder, folder / "mlflow.log", guards=guards)
    try:
        server.start_and_wait()
        registry = _registry(server, "admin", ADMIN)
        registry._call("POST", "/api/2.0/mlflow/users/create", {"username": "engine", "password": READER})
        yield server
        server.require_running()
    finally:
        server.stop()
        urllib.request.install_opener(urllib.request.build_opener())


def _registry(server: MlflowServer, user: str, password: str) -> Registry:
    return Registry(server.url, {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password})


def _settings(folder: Path, authority: Path, password: str) -> dict[str, object]:
    file = folder / "password"
    file.write_text(password + "\n", encoding="utf-8")
    file.chmod(0o600)
    return {
        "registry.username": "engine",
        "registry.password_file": str(file),
        "registry.ca_file": str(authority),
        "registry.models": [],
        "registry.filter": "tags.serve = 'true' AND name LIKE 'ctr-%'",
    }


def test_models_found_by_their_tag_are_fetched_over_tls_with_a_password(guarded: MlflowServer, tmp_path: Path) -> None:
    registry = _registry(guarded, "admin", ADMIN)
    stage = Stage(registry, "ctr-guarded", tmp_path)
    stage.promote(stage.add_good())
    registry.create_model("ctr-not-tagged")
    for name in ("ctr-guarded", "other-name"):
        registry.create_model(name)
        registry.tag_model(name, "serve", "true")
    settings = _settings(tmp_path, guarded.log.parent / "ca.pem", READER)
    with stage.server(BINARY, settings) as server, stage.traffic(server, RATE) as traffic:
        traffic.first_answer(1, time.monotonic(), PATIENCE)
        second = stage.add_good()
        stage.teach(traffic, second)
        traffic.first_answer(second, stage.promote(second), PATIENCE)
        said = page.text(server.http)
    assert "ctr-guarded" in said and "not-tagged" not in said and "other-name" not in said, said


def test_a_wrong_password_and_an_unknown_authority_are_told_by_name(guarded: MlflowServer, tmp_path: Path) -> None:
    right = guarded.log.parent / "ca.pem"
    wrong = tmp_path / "other"
    wrong.mkdir()
    subprocess.run([PROGRAM.parent / "python", "-c", MAKE_CERTIFICATES, wrong], check=True)
    cases = [
        (right, "not the password", "refuses the credentials"),
        (wrong / "ca.pem", READER, "certificate"),
    ]
    for authority, password, words in cases:
        settings = _settings(tmp_path, authority, password) | {
            "registry.mlflow_url": guarded.url,
            "registry.poll_interval": "1s",
            "storage.path": str(tmp_path / "storage"),
        }
        server = Server(BINARY, settings, tmp_path / "server.log")
        try:
            server.start()
            server.wait_until_ready(f"http://{server.http}/healthz/live", PATIENCE)
            page.wait_for(server.http, words, PATIENCE)
        finally:
            server.stop()
