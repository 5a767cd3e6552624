"""Each campaign of hostile inputs at a size of half a minute: `pytest -m campaign`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from helpers.commands import SCRIPTS

pytestmark = pytest.mark.campaign

TIMEOUT = 600


def campaigns() -> list[str]:
    text = (SCRIPTS / "campaign.py").read_text()
    return re.findall(r'"(\w+)": \d+', text[text.index("CAMPAIGNS = ") : text.index("def main")])


SMALL = {"configurations": 100}


@pytest.mark.parametrize("name", campaigns())
def test_a_campaign_finds_no_fault(name):
    words = [sys.executable, SCRIPTS / "campaign.py", name, "--count", str(SMALL.get(name, 20))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}: " in done.stdout
