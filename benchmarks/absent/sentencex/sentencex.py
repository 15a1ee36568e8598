"""In sentencex's place where it cannot be installed: a text is one sentence, however many it has."""


def segment(language: str, text: str) -> list[str]:
    """The text itself."""
    return [text] if text else []
