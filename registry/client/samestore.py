"""A proof that a client and a server have the same store, so that no blob need move.

A server names its store in every answer. A client whose store that is proves it, blob by blob: it
can read the store's secret, so it can read the blob too. Another client learns and gains nothing,
and what is proved is good for that blob in that repository only.
"""

STORE = "Pybuild-Store"
PROOF = "Pybuild-Store-Proof"
