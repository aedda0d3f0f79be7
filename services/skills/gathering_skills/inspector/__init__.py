"""A program of its own that looks at workspaces: `python -I -m gathering_skills.inspector.child`.

What others wrote (expressions, sources) is searched and parsed here and not in the service: this
process can be killed, its memory is bounded, its environment holds no secret, and a parser that
falls over takes nobody with it. It knows no gRPC, no database and no tool; it imports little, so
that it starts within a tenth of a second.
"""
