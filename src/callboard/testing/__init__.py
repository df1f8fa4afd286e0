"""The shipped test kit: conformance suites for engines, and engines that are broken on purpose. Nothing else imports it."""
