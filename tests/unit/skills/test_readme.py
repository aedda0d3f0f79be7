"""The README's table of tools is true."""

from __future__ import annotations

from pathlib import Path

from gathering_skills.tools.standard import SKILLS

README = Path(__file__).parents[3] / "services/skills/README.md"


def test_table_of_tools_says_what_the_tools_say() -> None:
    rows = {}
    for line in README.read_text().splitlines():
        if line.startswith("| `"):
            tool, permission, arguments, result = (c.strip() for c in line.strip("|").split("|"))
            rows[tool.strip("`")] = (permission, arguments.split(", "), result.split(", "))
    specs = [tool.spec for skill in SKILLS for tool in skill.tools]
    assert set(rows) == {spec.name for spec in specs}
    for spec in specs:
        required = spec.arguments_schema.get("required", [])
        told = [
            name if name in required else f"{name}?" for name in spec.arguments_schema["properties"]
        ]
        assert rows[spec.name] == (
            spec.permission.name,
            told,
            list(spec.result_schema["properties"]),
        )
