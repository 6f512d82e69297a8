"""The verbs. Each is thin: it reads its arguments, calls one function, and says where the result is."""

from sightread.cli import grounding, vokens, training, teachers, pictures, awareness, regions, evaluation  # isort: skip  # noqa: F401 (in the order of the help)
from sightread.cli import analysis, encoder_analysis, serving, sharing  # isort: skip  # noqa: F401
from sightread.cli.app import app

__all__ = ["app"]
