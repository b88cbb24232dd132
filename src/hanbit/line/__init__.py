"""The private line (500): carries signed messages between gateway and merchants, and knows no payment."""
