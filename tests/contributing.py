"""The newcomer's exercises: the code blocks of CONTRIBUTING.md, to be run as tests."""

import re
from pathlib import Path

GUIDE = Path(__file__).parent.parent / "CONTRIBUTING.md"


def code(section: str) -> list[str]:
    """Return the Python blocks of a section, in order."""
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.M | re.S)
    assert found, f"{GUIDE.name} has no section {section!r}"
    return re.findall(r"^```python\n(.*?)^```", found[1], re.M | re.S)
