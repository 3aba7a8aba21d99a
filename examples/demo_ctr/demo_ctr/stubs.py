"""Python classes for the gRPC API, generated from `proto/` when the demo starts."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import grpc_tools
from grpc_tools import protoc

from demo_ctr.errors import DemoError

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = REPOSITORY / ".cache" / "demo-stubs"
PACKAGE = "aibuyer.serving.v1"
FILES = ("column", "model", "ctr", "forecast", "anomaly", "analytics")
SERVICES = ("ctr", "forecast", "anomaly", "analytics")
# What they import; not every environment has it installed.
GOOGLE = "google/rpc/status.proto"


@dataclass(frozen=True)
class Stubs:
    """Generated modules: messages of columns, of model selection and of each service, and the services' clients."""

    column: ModuleType
    model: ModuleType
    ctr: ModuleType
    forecast: ModuleType
    anomaly: ModuleType
    analytics: ModuleType
    ctr_grpc: ModuleType
    forecast_grpc: ModuleType
    anomaly_grpc: ModuleType
    analytics_grpc: ModuleType


def load(proto: Path = REPOSITORY / "proto", cache: Path = CACHE) -> Stubs:
    """Generates into `cache` and imports from there."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = PACKAGE.replace(".", "/")
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={cache}", f"--grpc_python_out={cache}"]
    if protoc.main(arguments + [GOOGLE] + [f"{folder}/{name}.proto" for name in FILES]) != 0:
        raise DemoError(f"cannot generate Python classes from {proto}/{folder}")
    if str(cache) not in sys.path:
        sys.path.insert(0, str(cache))
    names = [f"{PACKAGE}.{name}_pb2" for name in FILES] + [f"{PACKAGE}.{name}_pb2_grpc" for name in SERVICES]
    return Stubs(*(importlib.import_module(name) for name in names))
