"""The merchant's agent: a sidecar that gives a shop in any language a local HTTP API over `hanbit.merchant.shop.Shop`."""
