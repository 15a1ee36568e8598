"""`scripts/make_api_key LABEL`: a new API key, and the entry by which the frontend knows it.

The key is printed once and kept nowhere.
"""

import argparse
import sys
from collections.abc import Sequence

from frontend.api_keys import Scope, WrongEntry, entry, make_key


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 2 for a label that cannot be one."""
    parser = argparse.ArgumentParser(prog="make_api_key", description="Makes an API key for the frontend.")
    parser.add_argument("label", help="whose key it is; several keys of one label share its limits")
    parser.add_argument("--scope", choices=[scope.value for scope in Scope], default=Scope.SPEAK.value)
    options = parser.parse_args(arguments)
    key = make_key()
    try:
        line = entry(options.label, Scope(options.scope), key)
    except WrongEntry as wrong:
        parser.error(str(wrong))
    print(f"key, for the caller, shown only now:\n  {key}\nentry, to be added to FRONTEND_API_KEYS:\n  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
