"""The `gathering` command."""

import typer

from gathering_client.commands import (
    agents,
    approvals,
    budgets,
    chat,
    circles,
    demo,
    events,
    login,
    memories,
    models,
    people,
    sessions,
    tasks,
)

app = typer.Typer(
    help="Run teams of AI agents: a mesh of services, its circles, tasks and events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (login, chat, demo, events):
    app.registered_commands += module.app.registered_commands
app.registered_commands += budgets.usage_app.registered_commands
app.add_typer(agents.app, name="agents")
app.add_typer(models.app, name="models")
app.add_typer(sessions.app, name="sessions")
app.add_typer(circles.app, name="circles")
app.add_typer(tasks.app, name="tasks")
app.add_typer(approvals.app, name="approvals")
app.add_typer(memories.app, name="memories")
app.add_typer(budgets.app, name="budgets")
app.add_typer(people.users, name="users")
app.add_typer(people.keys, name="keys")

try:
    from gathering_local.commands import app as local_app
except ImportError:  # Only the client is installed: there is no mesh to start here.
    pass
else:
    app.registered_commands += local_app.registered_commands

if __name__ == "__main__":
    app()
