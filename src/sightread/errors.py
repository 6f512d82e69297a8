"""The errors a user can meet; each message says what was given, what was expected, and what to do."""


class SightreadError(Exception):
    """Base of every error that is the user's to mend; the command line prints it and exits 2."""


class ConfigError(SightreadError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class DataError(SightreadError):
    """Input data that is missing, malformed, or too often bad."""


class ShapeError(SightreadError):
    """A tensor whose shape or dtype does not fit."""


class ArtifactError(SightreadError):
    """A folder that is unfinished, of another kind, or does not fit the one it is used with."""


class MissingExtra(SightreadError):
    """An optional dependency that is not installed."""
