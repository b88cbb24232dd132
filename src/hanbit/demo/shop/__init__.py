"""The demo shop: a small, cheerful web shop on `hanbit.merchant`, in a process, a site and a look of its own."""
