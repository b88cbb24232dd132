"""The faces over HTTP: pages, the browser's payment program, and what guards them."""
