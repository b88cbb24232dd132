"""The life of a payment, one verb a file; `redirect_flow` reads like the document's Figure 3."""
