"""A stand-in for the server binary: the same API over the Python encoder and ONNX Runtime.

Started by the tests as a process, configured by the same environment as the real one.
"""

import asyncio
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
from demo_ctr import stubs
from train_ctr.encoder import Encoder
from train_ctr.interval import ctr_interval
from train_ctr.session import Session

LEVEL = 0.9
# Added to every logit: how the tests make a server that is wrong.
LOGIT_ERROR = float(os.environ.get("STAND_IN_LOGIT_ERROR", "0"))


def value_at(column: Any, row: int) -> Any:
    if row in column.missing:
        return None
    kind = column.WhichOneof("values")
    values = getattr(column, kind)
    if kind != "string_lists":
        return values.values[row]
    start = sum(values.lengths[:row])
    return list(values.values[start : start + values.lengths[row]])


def main() -> None:
    api = stubs.load()
    models = Path(os.environ["AIBUYER_REGISTRY__PATH"])
    [name] = [path.name for path in models.iterdir()]
    [version] = [path for path in (models / name).iterdir() if path.is_dir()]
    encoder, session = Encoder.from_directory(version), Session(version / "model.onnx")

    class Service(api.ctr_grpc.CtrServiceServicer):  # type: ignore[misc, name-defined]
        async def PredictCtr(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
            if request.model.name != name:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model.name}")
            rows = [
                {column.name: value_at(column, 0) for column in request.context}
                | {column.name: value_at(column, row) for column in request.candidates}
                for row in range(request.candidate_count)
            ]
            logit, variance = session.run(*encoder.encode(rows))
            estimates = zip(*ctr_interval(logit.astype(float) + LOGIT_ERROR, variance, LEVEL), strict=True)
            return api.ctr.PredictCtrResponse(
                model=api.model.ServedModel(name=name, version=int(version.name)),
                interval_level=LEVEL,
                predictions=[api.ctr.CtrPrediction(ctr=c, ctr_lower=a, ctr_upper=b) for c, a, b in estimates],
            )

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz/ready" else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    async def serve() -> None:
        server = grpc.aio.server()
        api.ctr_grpc.add_CtrServiceServicer_to_server(Service(), server)
        server.add_insecure_port(os.environ["AIBUYER_SERVER__GRPC_LISTEN"])
        await server.start()
        host, port = os.environ["AIBUYER_SERVER__HTTP_LISTEN"].split(":")
        health = HTTPServer((host, int(port)), Health)
        threading.Thread(target=health.serve_forever, daemon=True).start()
        await server.wait_for_termination()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
