"""One thread for the model in this process too: what runs beside it would otherwise slow both down."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
