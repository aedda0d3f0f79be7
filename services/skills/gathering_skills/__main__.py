"""Serve the skills service until SIGTERM."""

from gathering_mesh import process
from gathering_skills.app import open_app
from gathering_skills.settings import SkillsSettings

if __name__ == "__main__":
    process.run(open_app, SkillsSettings())
