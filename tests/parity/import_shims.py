"""Stand-ins for packages that qwen-tts imports on load but uses only for its 25 Hz models.

Runs in the official package's environment. torchaudio, sox and onnxruntime are heavy, or need CUDA libraries a
plain machine lacks; the 12 Hz models compared here never call them, and a call would fail loudly.
"""

import importlib.machinery
import sys
import types

ABSENT = ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi", "sox", "onnxruntime")


class AbsentModule(types.ModuleType):
    """A module whose every public attribute is a callable that refuses to work."""

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def refuse(*_: object, **__: object) -> None:
            raise NotImplementedError(f"{self.__name__}.{attribute} is not installed in the parity environment")

        return refuse


def install() -> None:
    """Registers the stand-ins; call before the first `import qwen_tts`."""
    for name in ABSENT:
        module = AbsentModule(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
