"""The long description of the package: README.md as it reads where there is no repository.

A link into the repository would lead nowhere there. Its text, which names the file, stays; a
picture goes. All else that setuptools needs is in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import setup

RELATIVE = r"\((?![a-z]+:)[^)]*\)"  # of a link's (target), one without https: or the like


def self_sufficient(text: str) -> str:
    """Markdown without its relative pictures and links."""
    text = re.sub(rf"!\[[^]]*\]{RELATIVE}\n*", "", text)
    return re.sub(rf"\[([^]]*)\]{RELATIVE}", r"\1", text)


setup(
    long_description=self_sufficient(Path(__file__).with_name("README.md").read_text()),
    long_description_content_type="text/markdown",
)
