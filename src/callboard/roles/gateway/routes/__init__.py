"""The routes of the API, a module for each concern. They translate: what is decided and stored is the queue's affair."""
