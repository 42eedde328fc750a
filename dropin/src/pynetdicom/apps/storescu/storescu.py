"""`storescu` of dicomwire, with the exit codes and presentation contexts of pynetdicom's."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomwire import build_context
from dicomwire.apps import storescu
from dicomwire.apps.outgoing import MOST_CONTEXTS, AssociationFiles, FilesToSend
from dicomwire.presentation import PresentationContext, StoragePresentationContexts
from pynetdicom.apps import with_exit_codes

_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)


class _AllOfStorage(FilesToSend):
    """Proposes the classes of StoragePresentationContexts, as pynetdicom's storescu does.

    Files that these do not cover, such as compressed ones, have contexts of their own besides.
    """

    def proposed(self, group: AssociationFiles) -> list[PresentationContext]:
        syntaxes: list[str | UID] = [self.syntax] if self.syntax else list(_SYNTAXES)
        classes = [str(context.abstract_syntax) for context in StoragePresentationContexts]
        of_their_own = [
            context
            for context in group.contexts
            if context.abstract_syntax not in classes or context.transfer_syntax[0] not in syntaxes
        ]
        # What the files need comes first: there may be no room for all.
        needed = {context.abstract_syntax for context in group.contexts}
        classes.sort(key=lambda sop_class: sop_class not in needed)
        room = MOST_CONTEXTS - len(of_their_own)
        return [build_context(each, syntaxes) for each in classes[:room]] + of_their_own


def main(args: list[str] | None = None) -> int:
    """Run storescu and return its exit code; see ``python -m pynetdicom storescu --help``."""
    return storescu.main(with_exit_codes(args), _AllOfStorage)


if __name__ == "__main__":
    raise SystemExit(main())
