"""Views on the event stream: live on a terminal, plain lines, JSON, or nothing [PRG]."""
