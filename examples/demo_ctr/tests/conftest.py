import pytest
from demo_ctr import stubs


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> stubs.Stubs:
    """The generated gRPC classes, in a cache of their own."""
    return stubs.load(cache=tmp_path_factory.mktemp("stubs"))
