from __future__ import annotations

import ssl

from pybuild.model.trust import trusting


def test_certificates_and_names_are_verified_but_not_their_form() -> None:
    context = trusting()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
