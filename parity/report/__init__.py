"""What was found out about a pair, and its forms: text, JSON, HTML, SARIF and a script that reproduces a failure."""
