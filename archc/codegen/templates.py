"""Access to the jinja2 templates in archc's packages.

Templates only lay out text; all decisions are made in Python.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


@cache
def template(package: str, name: str) -> jinja2.Template:
    """The jinja2 template in a file of a package.

    Rendering raises an error for a variable without a value.  Templates of HTML escape all values.

    Raises:
        jinja2.TemplateNotFound: the package has no such file.
    """
    return _environment(package).get_template(name)


@cache
def _environment(package: str) -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",), default=False),
    )
