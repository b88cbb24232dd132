"""What a shop installs: `Shop`, its order book, its end of the private line, and enrolment."""
