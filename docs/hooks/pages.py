"""What mkdocs calls: it adds the pages that are made from the code and from the notebook."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
REFERENCE = "http"
"""Begins the paths of the reference's pages, and stands for all of them in mkdocs.yml."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the HTTP reference, one for each tag of the API, where mkdocs.yml says `http`."""
    sys.path.insert(0, str(ROOT))  # mkdocs may be started by its own script, from anywhere
    from docs.hooks.reference import document, navigation  # noqa: PLC0415 - it is found only now

    for section in config.nav or []:
        for pages in section.values():
            for page in pages:
                if page.get("HTTP") == REFERENCE:
                    page["HTTP"] = navigation(document())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the HTTP reference, the hyperparameters, and the notebook as a page."""
    from docs.hooks import hyperparameters, notebook, reference  # noqa: PLC0415 - as above

    made = dict(reference.pages(reference.document()))
    made["hyperparameters.md"] = hyperparameters.page(ROOT / "hparams")
    made["notebook.md"] = notebook.page(ROOT / "docs" / "tutorial.ipynb")
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files
