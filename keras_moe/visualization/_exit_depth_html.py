"""Exit depths as a page: text, coloured by where its tokens left."""

import html
import os
from collections.abc import Sequence

from keras_moe.visualization._exit_colours import exit_colours
from keras_moe.visualization._exit_colours import ink_on
from keras_moe.visualization._exit_rows import ExitRow
from keras_moe.visualization._exit_rows import exit_rows
from keras_moe.visualization._figure_files import check_target
from keras_moe.visualization._figure_files import write_atomically

# Text and rules take the colour of the page around them, light or dark; cells
# set both text and background. Rules apply to a class, since a notebook puts
# several pages into one document.
_STYLE = """
.exit-depth { color-scheme: light dark; margin: 1em; overflow-x: auto;
  font: 1rem/1.5 system-ui, sans-serif; }
.exit-depth figcaption { font-weight: 600; margin-bottom: .5em; }
.exit-depth table { border-collapse: collapse; }
.exit-depth th, .exit-depth td { padding: .25em .6em .25em 0;
  text-align: start; vertical-align: top; background: none; border: 0; }
.exit-depth thead th { font-size: .8em; font-weight: 400; }
.exit-depth span, .exit-depth li { display: inline-block; min-width: 1.2em;
  padding: .05em .35em; margin: 0 .1em .15em 0; border-radius: .2em;
  border: 1px solid #8888; text-align: center; white-space: pre-wrap;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.exit-depth sub { font-size: .65em; padding-inline-start: .2em; }
.exit-depth ol { list-style: none; display: inline; padding: 0; margin: 0; }
.exit-depth div { margin: .5em 0 0; font-size: .8em; }
"""


def exit_depth_html(
    tokens: Sequence[Sequence[str]],
    exit_layers: Sequence[Sequence[int]],
    num_layers: int,
    title: str | None = None,
    path: str | os.PathLike | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> str:
    """Writes at which layer each token left the decoder, as HTML.

    The picture of `plot_exit_depth` as one document that needs nothing else:
    no script, no font, no other file, and not even Matplotlib. The colour of a
    token, the small number behind it and its tooltip give the layer. The page
    is readable in dark mode as well. `IPython.display.HTML` shows it in a
    notebook.

    Args:
        tokens: rows of texts; they may differ in length.
        exit_layers: rows of integers in [0, num_layers], one for each token;
            0 stands for padding, which is left out.
        num_layers: number of layers of the decoder.
        title: a title.
        path: where to write the document, in UTF-8; `None` to write none.
        labels: what stands before each row, such as the word that was read.

    Returns:
        The document.

    Raises:
        ValueError: if rows do not fit together, or an exit layer is not in the
            decoder, or no token was emitted.
        TypeError: if tokens are not texts, or exit layers not integers.
        FileNotFoundError: if there is no folder for `path`.

    Example:

    >>> page = keras_moe.visualization.exit_depth_html(
    ...     [["K", "AE", "T"]], [[1, 2, 1]], num_layers=8, labels=["cat"]
    ... )
    >>> 'title="exit layer 2 of 8">AE<sub>2</sub>' in page
    True
    """
    check_target(path)
    rows = exit_rows(tokens, exit_layers, num_layers, labels)
    scope = f"exit-depth-{num_layers}"
    colours = "".join(
        f".{scope} .layer-{layer} {{ background: {colour}; "
        f"color: {ink_on(colour)}; }}\n"
        for layer, colour in enumerate(exit_colours(num_layers), 1)
    )
    labelled = any(row.label for row in rows)
    body = "\n".join(_row(row, num_layers, labelled) for row in rows)
    corner = "<td></td>" if labelled else ""
    caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
    legend = "".join(
        f'<li class="layer-{layer}">{layer}</li>'
        for layer in range(1, num_layers + 1)
    )
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title or "Exit depth")}</title>
<style>{_STYLE}{colours}</style>
</head>
<body>
<figure class="exit-depth {scope}">
{caption}
<table>
<thead><tr>{corner}<th scope="col">tokens</th>\
<th scope="col">mean exit layer</th></tr></thead>
<tbody>
{body}
</tbody>
</table>
<div>exit layer: <ol>{legend}</ol></div>
</figure>
</body>
</html>
"""
    if path is not None:
        write_atomically(path, lambda file: file.write(page.encode()))
    return page


def _row(row: ExitRow, num_layers: int, labelled: bool) -> str:
    label = f'<th scope="row">{html.escape(row.label)}</th>' if labelled else ""
    # Line breaks between cells: a browser may wrap there, and nowhere else.
    cells = "\n".join(
        f'<span class="layer-{layer}" title="exit layer {layer} of '
        f'{num_layers}">{html.escape(token)}<sub>{layer}</sub></span>'
        for token, layer in zip(row.tokens, row.layers, strict=True)
    )
    return f'<tr>{label}<td>{cells}</td><td class="mean">{row.mean}</td></tr>'
