"""The contract tells private modules from public ones."""

import grimp
import pytest
from importlinter.domain.contract import InvalidContractOptions

from dev.room_contract import RoomContract

OPTIONS = {"package": "house", "importers": ["garden", "shed"]}


def check(*imports, options=OPTIONS):
    graph = grimp.ImportGraph()
    for module in ("house", "garden", "garden.tree", "shed"):
        graph.add_module(module)
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported)
    return RoomContract("rooms", {}, options).check(graph, verbose=False)


@pytest.mark.parametrize(
    "imported",
    ["house", "house.kitchen", "house.kitchen.sink_", "_other.house", "shed"],
)
def test_public_modules(imported):
    assert check(("garden", imported)).kept


@pytest.mark.parametrize(
    "imported",
    ["house._hall", "house.kitchen._sink", "house._hall.door", "house.a._b.c"],
)
@pytest.mark.parametrize("importer", ["garden", "garden.tree", "shed"])
def test_private_modules(importer, imported, capsys):
    broken = check((importer, imported))
    assert not broken.kept
    assert broken.metadata["found"] == [f"{importer} imports {imported}"]
    RoomContract("rooms", {}, OPTIONS).render_broken_contract(broken)
    assert f"{importer} imports {imported}" in capsys.readouterr().out


def test_the_house_may_use_its_own():
    assert check(("house.kitchen", "house._hall")).kept


def test_an_importer_that_does_not_exist():
    with pytest.raises(ValueError, match="Received: graden"):
        check(options={"package": "house", "importers": ["graden"]})
    with pytest.raises(InvalidContractOptions):
        check(options={"package": "house"})
