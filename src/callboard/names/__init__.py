"""Global names: what they mean (`model`, `groups`), the book of who answers them (`directory`), and how a node asks
(`resolver`)."""
