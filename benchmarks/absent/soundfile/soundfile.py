"""In soundfile's place where it cannot be installed: no sound file can be read, as if each were broken."""


class LibsndfileError(RuntimeError):
    """What soundfile raises for a file it cannot read."""


class SoundFile:
    """A file that cannot be read."""

    def __init__(self, path: object) -> None:
        """Raises LibsndfileError."""
        raise LibsndfileError(f"soundfile is not installed: {path} cannot be read")
