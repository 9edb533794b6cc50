"""Lets the pages show the pictures that the benchmarks keep.

They lie beside their figures, outside of `docs`, where GitHub finds them by a
relative path and MkDocs finds nothing.
"""

import pathlib

from mkdocs.structure.files import File

RESULTS = pathlib.Path(__file__).parents[1] / "benchmarks" / "results"


def on_files(files, config):
    """Puts the pictures among the files of the site."""
    for picture in sorted(RESULTS.glob("*.png")):
        files.append(
            File.generated(
                config, f"pictures/{picture.name}", abs_src_path=str(picture)
            )
        )
    return files


def on_page_markdown(markdown, **kwargs):
    """Points the pages to where `on_files` puts pictures."""
    return markdown.replace("](../benchmarks/results/", "](pictures/")
