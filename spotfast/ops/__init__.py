"""One public function per operation: it checks its arguments and calls the backend that `spotfast.backends` chooses."""
