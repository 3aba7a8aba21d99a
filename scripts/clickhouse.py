"""A real ClickHouse server on the loopback address, for tests and demos; `make clickhouse` installs it.

    .venv-clickhouse/bin/python scripts/clickhouse.py FOLDER [--port PORT] [--users FILE]

Tables live in FOLDER and survive a restart and a kill. Once it listens, FOLDER/port holds its HTTP port. It stops
when its standard input closes, so a parent that dies takes it along; SIGTERM and SIGKILL end it too.

It can read every file that its user can: never open it to other machines.
"""

import argparse
import importlib.util
import os
import signal
from pathlib import Path
from xml.sax.saxutils import escape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="HTTP port; 0 takes a free one")
    parser.add_argument("--users", type=Path, help="a ClickHouse users file (XML); without it anyone may do anything")
    arguments = parser.parse_args()
    # A handler in Python would not run before the engine comes back, and it does not while it serves.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    folder = arguments.folder.resolve()
    if "'" in str(folder):
        parser.error(f"{folder}: a quote in the path cannot be named to the engine")
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    configure(folder, arguments.port, arguments.users)
    # The second argument is the output format of queries that name none: that of a stock server.
    engine().query(
        "SYSTEM START LISTEN HTTP;"
        f"SELECT getServerPort('http_port') INTO OUTFILE '{port_file}' TRUNCATE FORMAT TSV;"
        # Blocks until standard input closes; the listener answers meanwhile.
        "SELECT count() FROM file('/dev/stdin', 'LineAsString', 'line String')",
        "TabSeparated",
    )


def configure(folder: Path, port: int, users: Path | None) -> None:
    """Writes the configuration where the engine looks for it: below the home directory."""
    home = folder / "home"
    (home / ".clickhouse-local").mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    users_config = f"<users_config>{escape(str(users.resolve()))}</users_config>" if users else ""
    (home / ".clickhouse-local" / "config.xml").write_text(
        f"<clickhouse><path>{escape(str(folder))}/data/</path><http_port>{port}</http_port>"
        f"<listen_host>127.0.0.1</listen_host>{users_config}</clickhouse>"
    )
    os.environ["HOME"] = str(home)


def engine():
    """The extension module alone: the package around it wants pandas and pyarrow."""
    package = importlib.util.find_spec("chdb")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("chdb-core is not installed here: run `make clickhouse` and use .venv-clickhouse/bin/python")
    path = Path(package.submodule_search_locations[0]) / "_chdb.abi3.so"
    spec = importlib.util.spec_from_file_location("_chdb", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
