import os
import shutil
from pathlib import Path

from penstock_node_agent.node.host_facts import read_host_facts


def test_facts_are_those_of_this_machine(tmp_path: Path) -> None:
    facts = read_host_facts(tmp_path)

    assert facts.cpu_count == os.cpu_count()
    assert facts.memory_bytes > 2**27
    assert facts.memory_available_bytes is not None
    assert 0 < facts.memory_available_bytes < facts.memory_bytes
    assert facts.disk_bytes == shutil.disk_usage(tmp_path).total
    assert 0 <= facts.disk_free_bytes <= facts.disk_bytes
    assert facts.load_1m is not None
    assert facts.load_1m >= 0
