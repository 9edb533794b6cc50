"""A contract for import-linter: outsiders import rooms, not private modules."""

import grimp
from importlinter import Contract
from importlinter import ContractCheck
from importlinter import fields
from importlinter import output


class RoomContract(Contract):
    """Nothing outside a package imports a module of it that is private.

    A module is private if it, or a package above it, has a name that starts
    with an underscore. Late imports, inside functions, count too.

    Configuration:
        package: The package whose rooms are public.
        importers: Packages outside, with all that lies below them.
    """

    package = fields.StringField()
    importers = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Looks at what each module of the importers imports."""
        found = []
        for root in self.importers:
            if root not in graph.modules:
                raise ValueError(
                    "`importers` must be packages of `root_packages`. "
                    f"Received: {root}"
                )
            for importer in sorted({root} | graph.find_descendants(root)):
                for imported in sorted(
                    graph.find_modules_directly_imported_by(importer)
                ):
                    if self._is_private(imported):
                        found.append(f"{importer} imports {imported}")
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Prints a line for each import that is not allowed."""
        for line in check.metadata["found"]:
            output.print_error(line)

    def _is_private(self, module: str) -> bool:
        top, *below = module.split(".")
        return top == self.package and any(
            part.startswith("_") for part in below
        )
