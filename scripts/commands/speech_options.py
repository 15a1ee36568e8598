"""The options that every command which speaks through a running server has: which server, and how it is to sound."""

import argparse
import os

DEFAULT_URL = "ws://127.0.0.1:8080/api/v1/speak"
KEY_VARIABLE = "TTS_API_KEY"
CANCELLED_STATUS = 130


def add_speech_options(parser: argparse.ArgumentParser) -> None:
    """Adds --voice, --language, --instructions, --url and --key."""
    parser.add_argument("--voice", help="id of a voice or name of a speaker (default: the server's)")
    parser.add_argument("--language", help="language of the text (default: found by the model)")
    parser.add_argument("--instructions", help="how to say it, for models that take a style")
    parser.add_argument("--url", default=DEFAULT_URL, help="the server (default: %(default)s)")
    parser.add_argument("--key", default=os.environ.get(KEY_VARIABLE), help=f"API key (default: ${KEY_VARIABLE})")
