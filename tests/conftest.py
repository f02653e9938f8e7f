from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real preference data that lies beside the repository, not in it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "alpacaeval_pairs.jsonl").exists():
        pytest.skip("the real data (../shared/data beside the repository) is not on this machine")
    return folder
