"""Queries a contrast agent before its administration (Substance Administration Query)."""

from pydicom import Dataset

from dicomwire import AE, Association
from dicomwire.sop_class import ProductCharacteristicsQuery, SubstanceApprovalQuery


def first_match(assoc: Association, query: Dataset, model: str) -> Dataset | None:
    matches = [match for _, match in assoc.send_c_find(query, model) if match is not None]
    return matches[0] if matches else None


def ask(
    package: str, patient_id: str, host: str = "127.0.0.1", port: int = 11112
) -> tuple[str, str] | None:
    """Return the product's name, and APPROVED, WARNING or CONTRA_INDICATED; None if unknown."""
    characteristics = Dataset()
    characteristics.ProductPackageIdentifier = package
    characteristics.ProductName = ""
    characteristics.ProductTypeCodeSequence = []

    route = Dataset()
    route.CodeValue = "47625008"
    route.CodingSchemeDesignator = "SCT"
    route.CodeMeaning = "Intravenous route"
    approval = Dataset()
    approval.PatientID = patient_id
    approval.ProductPackageIdentifier = package
    approval.AdministrationRouteCodeSequence = [route]
    approval.SubstanceAdministrationApproval = ""

    ae = AE("INJECTOR")
    ae.add_requested_context(ProductCharacteristicsQuery)
    ae.add_requested_context(SubstanceApprovalQuery)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        product = first_match(assoc, characteristics, ProductCharacteristicsQuery)
        if product is None:
            return None
        decision = first_match(assoc, approval, SubstanceApprovalQuery)
        if decision is None:
            return None
    return product.ProductName, decision.SubstanceAdministrationApproval


if __name__ == "__main__":
    print(ask("5012345678900", "1001"))
