"""The life of a payment, one verb a file; `redirect_flow` and `dual_signature_flow` read like the two documents."""
