"""Lets examples of docstrings appear as code in the API pages.

Docstrings head them `Example:`, as Keras does, with a blank line after it;
to Markdown `>>>` is then a quotation in a quotation in a quotation.
"""

import re

import griffe

# An example goes on to the next blank line.
_EXAMPLE = re.compile(r"^( *)>>> .+(?:\n.*\S.*)*", re.MULTILINE)


class FencedExamples(griffe.Extension):
    """Puts examples of docstrings between fences."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(
                r"\1```pycon\n\g<0>\n\1```", obj.docstring.value
            )
