"""Answers queries about contrast agents and drugs (Substance Administration Query)."""

from collections.abc import Iterator

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import ProductCharacteristicsQuery, SubstanceApprovalQuery


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def product(identifier: str) -> Dataset:
    """Return the characteristics of a product by the code on its package."""
    found = Dataset()
    found.ProductPackageIdentifier = identifier
    found.ProductName = "Contrast 300"
    found.ProductTypeCodeSequence = [code("385420005", "SCT", "Contrast agent")]
    found.ProductExpirationDateTime = "20271231"
    found.ProductParameterSequence = []
    return found


def approval(query: Dataset) -> Dataset:
    """Return whether a patient may have a product."""
    found = Dataset()
    found.update(query)
    found.SubstanceAdministrationApproval = "APPROVED"
    return found


def handle_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    """Answer both kinds of query."""
    if event.identifier.get("ProductPackageIdentifier") != "5012345678900":
        return  # no match: the library sends success only
    if event.context.abstract_syntax == SubstanceApprovalQuery:
        yield 0xFF00, approval(event.identifier)
    else:
        yield 0xFF00, product("5012345678900")


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("PHARMACY")
    ae.add_supported_context(ProductCharacteristicsQuery)
    ae.add_supported_context(SubstanceApprovalQuery)
    handlers = [(evt.EVT_C_FIND, handle_find)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
