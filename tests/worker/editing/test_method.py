"""Methods are found in their folder, and each says where it comes from."""

import inspect
import pkgutil
import re

from worker.editing import methods
from worker.editing.hparams import Hparams
from worker.editing.method import discover


def test_every_file_of_the_folder_is_a_method() -> None:
    names = {found.name.replace("_", "-") for found in pkgutil.iter_modules(methods.__path__)}
    assert set(discover()) == names
    assert "rome" in names


def test_a_method_says_what_it_is() -> None:
    for name, method in discover().items():
        assert method.name == name
        assert method.title
        assert re.search(r"arXiv:\d{4}\.\d{5}", method.source)
        assert issubclass(method.hparams, Hparams)
        assert method.hparams.model_config["extra"] == "forbid"
        assert inspect.isgeneratorfunction(method.compute)
