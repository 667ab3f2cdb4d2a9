"""The exact front end: samples to log-mel patches."""
