"""What was found out about a pair, as text, JSON, HTML, SARIF and a script that shows a failure again."""
