"""Programs written for Spotlight: `spotlight.X` imports `spotfast.X`, the same module object."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

OLD, NEW = "spotlight", "spotfast"


def install() -> None:
    """Let `import spotlight` and everything below it give spotfast, for the rest of this process.

    Nothing is imported until it is asked for. Another package named `spotlight` that is installed, but not imported
    yet, is hidden. A second call changes nothing.

    Raises:
        ImportError: if another package named `spotlight` has been imported already.

    Example:
        >>> import spotfast
        >>> spotfast.install()
        >>> from spotlight.interactions import Interactions
        >>> Interactions.__module__
        'spotfast.interactions'
    """
    installed = any(isinstance(finder, _Finder) for finder in sys.meta_path)
    if installed and sys.modules.get(OLD) is sys.modules[NEW]:
        return
    for name, module in list(sys.modules.items()):
        if _is_old(name) and module is not sys.modules.get(_new(name)):
            place = getattr(module, "__file__", None) or repr(module)
            raise ImportError(
                f"{name} has been imported already, and is not spotfast: {place}. "
                "Call spotfast.install() before anything imports spotlight",
                name=name,
            )
    if not installed:
        # First, for the path-based finder would load the same files once more, as other modules.
        sys.meta_path.insert(0, _Finder())
    sys.modules[OLD] = sys.modules[NEW]


class InheritedPath(str):
    """An entry of `sys.path` that takes `install` along into child processes.

    Where `multiprocessing` spawns a child or asks its fork server for one, it sends `sys.path` pickled, and the child
    reads that before it imports the main script again. To read this entry is to call `install`.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _inherit, (str(self),)


def _inherit(path: str) -> InheritedPath:
    install()
    return InheritedPath(path)


class _Finder(MetaPathFinder, Loader):
    """Finds `spotlight` and the modules below it where spotfast has one of that name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _is_old(fullname):
            return None
        found = importlib.util.find_spec(_new(fullname))
        if found is None:
            return None
        spec = ModuleSpec(fullname, self, origin=found.origin)
        spec.submodule_search_locations = found.submodule_search_locations
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Put spotfast's module in the place of the new, empty one: what `import` returns is looked up there."""
        sys.modules[module.__name__] = importlib.import_module(_new(module.__name__))


def _is_old(name: str) -> bool:
    return name.partition(".")[0] == OLD


def _new(name: str) -> str:
    return NEW + name.removeprefix(OLD)
