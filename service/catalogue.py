"""The models that are served, by name and version. Knows nothing of gRPC, or of what a model does."""

from collections.abc import Collection
from collections.abc import Sequence as Sized

from bundle.values import NAME
from service.errors import InvalidRequest, NotReady, UnknownModel, Violation
from service.models import Model


class Models:
    """Every model version that is served, by name and version; `unready`: those that could not be loaded."""

    def __init__(self, models: Sized[Model], default: str, unready: Collection[tuple[str, int]] = ()) -> None:
        self.unready = sorted(unready)
        self.by_name: dict[str, dict[int, Model]] = {}
        for model in models:
            self.by_name.setdefault(model.manifest.name, {})[model.manifest.version] = model
        self.default = default
        self._known: dict[tuple[str, int], Model] = {}  # by all that selects one
        for name, versions in self.by_name.items():
            for called in (name, "") if name == default else (name,):
                self._known |= {(called, version): model for version, model in versions.items()}
                self._known[called, 0] = versions[max(versions)]

    def all(self) -> list[Model]:
        """By name, then version."""
        return [versions[v] for _, versions in sorted(self.by_name.items()) for v in sorted(versions)]

    def replace(self, model: Model) -> None:
        """Puts a model in the place of the one with its name and version; calls inside keep theirs."""
        versions = self.by_name[model.manifest.name]
        old = versions[model.manifest.version]
        versions[model.manifest.version] = model
        for called in [called for called, known in self._known.items() if known is old]:
            self._known[called] = model

    def select(self, name: str, version: int) -> Model:
        """The model of a name (empty: the default) and version (0: the highest).

        Raises InvalidRequest for what no model could be called, UnknownModel for what none here is, NotReady.
        """
        if known := self._known.get((name, version)):
            return known
        name = name or self.default
        if not NAME.fullmatch(name):
            reason = "not a name; lower-case letters, digits, '.', '_' and '-', at most 64, are allowed"
            raise InvalidRequest(Violation("model.name", reason))
        if version < 0:
            raise InvalidRequest(
                Violation("model.version", f"{version}; 0 (the highest) and more are allowed")
            )
        if any(name == known and version in (0, number) for known, number in self.unready):
            raise NotReady(f"model {name!r}: not ready here; another server may serve it")
        versions = self.by_name.get(name)
        if versions is None:
            raise UnknownModel(f"model {name!r}: not served here; {', '.join(sorted(self.by_name))} are")
        others = ", ".join(map(str, sorted(versions)))
        raise UnknownModel(f"model {name!r} version {version}: not served here; {others} are")
