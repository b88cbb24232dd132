"""The customer's face: opening an order, logging in, paying, the page of each outcome."""
